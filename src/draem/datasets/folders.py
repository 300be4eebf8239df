"""Which image files a folder holds, and which files are left out, and why."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from draem.datasets.mask_names import masks_next_to_images
from draem.errors import DatasetError, counted, shown
from draem.imaging.decode import IMAGE_SUFFIXES, is_image_path

_THUMBNAILS = ("@eadir", "__macosx", "thumbnails", ".thumbnails")
_TOLD_FOLDERS = 4


class Search(NamedTuple):
    """What was found in folders.

    Attributes:
        images: Image files, in the same order on every machine.
        left_out: How many files were left out, by reason.
    """

    images: tuple[Path, ...]
    left_out: Counter[str]

    def without(self, images: Iterable[Path], reason: str) -> Search:
        """The same without some images, which are counted as left out for a reason."""
        gone = set(images)
        kept = tuple(image for image in self.images if image not in gone)
        left = Counter({reason: len(self.images) - len(kept)})
        return Search(kept, +(self.left_out + left))


def search_images(folder: str | Path) -> Search:
    """Find the image files in a folder and in its folders.

    Left out are hidden files and folders, whose names begin with a full stop, folders of thumbnails
    such as `@eaDir`, files of other kinds, and masks that are next to their image.

    Raises:
        DatasetError: The folder is missing or may not be read.
    """
    folder = Path(folder)
    images, left_out = [], Counter[str]()
    for path in _files(folder, left_out):
        if is_image_path(path):
            images.append(path)
        else:
            left_out[path.suffix.lower() or "without a suffix"] += 1
    ordered = tuple(sorted(images, key=lambda path: path.relative_to(folder).parts))
    found = Search(ordered, left_out)
    masks = masks_next_to_images(ordered)
    such = f", such as {masks[0].name}" if masks else ""
    return found.without(masks, f"next to an image whose masks they are{such}")


def find_images(folder: str | Path) -> tuple[Path, ...]:
    """The images that `search_images` finds."""
    return search_images(folder).images


def log_taken(search: Search) -> None:
    """Log which images were taken, from which folders, and what was left out, in one line."""
    folders = Counter(image.parent for image in search.images)
    places = [f"{count} in {folder}" for folder, count in sorted(folders.items())]
    more = len(places) - _TOLD_FOLDERS
    if more > 0:
        places[_TOLD_FOLDERS:] = [f"and so on in {counted(more, 'more folder')}"]
    where = places[0].partition(" in ")[2] if len(folders) == 1 else "; ".join(places)
    line = f"{counted(len(search.images), 'image')} taken from {where}"
    kinds = Counter(image.suffix.lower() for image in search.images)
    if len(kinds) > 1:
        line += f" ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})"
    if left_out := sorted(search.left_out.items()):
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out)
        line += f". Left out: {reasons}"
    logging.getLogger("draem").info("%s.", shown(line))


def existing_folder(root: str | Path, expected: str) -> Path:
    """A folder that exists; the error says what was expected in it."""
    folder = Path(root)
    if not folder.exists():
        raise DatasetError("does not exist", path=folder, expected=expected)
    if not folder.is_dir():
        raise DatasetError("is not a folder", path=folder, expected=expected)
    return folder


def nonempty(folder: Path, found: Search) -> Search:
    """What was found in a folder, unless there are no images."""
    if found.images:
        return found
    others = sum(1 for _ in _files(folder, Counter()))
    raise DatasetError(
        "holds no images",
        path=folder,
        expected=f"files that end in {', '.join(IMAGE_SUFFIXES)}",
        found=counted(others, "other file") if others else "an empty folder",
    )


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder that are not hidden, sorted."""
    with os.scandir(folder) as entries:  # much faster than asking for each of many files
        found = [entry.name for entry in entries if entry.is_dir()]
    return [folder / name for name in sorted(found) if not name.startswith(".")]


def files_if_any(folder: Path) -> Iterator[Path]:
    """Files in a folder and below; none if there is no such folder."""
    return _files(folder, Counter()) if folder.is_dir() else iter(())


def _files(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Every file that is not hidden; links to folders are followed, each folder once."""
    seen: set[Path] = set()
    for name, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(name)
        if here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        kept = [file for file in files if not file.startswith(".")]
        yield from (here / file for file in kept)
        searched = sorted(f for f in folders if f.lower() not in _THUMBNAILS)
        if thumbnails := len(folders) - len(searched):
            left_out[f"folder{'s'[: thumbnails > 1]} of thumbnails"] += thumbnails
        folders[:] = [f for f in searched if not f.startswith(".")]
        if hidden := len(files) - len(kept) + len(searched) - len(folders):
            left_out["hidden"] += hidden


def _refuse(error: OSError) -> None:
    raise DatasetError(f"cannot be read ({error.strerror})", path=error.filename) from error
