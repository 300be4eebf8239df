"""Which image files a folder holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from draem.errors import DatasetError, counted
from draem.imaging.decode import IMAGE_SUFFIXES, is_image_path


def find_images(folder: str | Path, recursive: bool = False) -> tuple[Path, ...]:
    """Find the image files in a folder, in the same order on every machine.

    Hidden files and folders, whose names begin with a full stop, are passed over.

    Args:
        folder: Where to look.
        recursive: Whether to look in its folders too.

    Raises:
        DatasetError: The folder is missing or may not be read.
    """
    folder = Path(folder)
    found = (path for path in _files(folder, recursive) if is_image_path(path))
    return tuple(sorted(found, key=lambda path: path.relative_to(folder).parts))


def existing_folder(root: str | Path, expected: str) -> Path:
    """A folder that exists; the error says what was expected in it."""
    folder = Path(root)
    if not folder.exists():
        raise DatasetError("does not exist", path=folder, expected=expected)
    if not folder.is_dir():
        raise DatasetError("is not a folder", path=folder, expected=expected)
    return folder


def nonempty(folder: Path, images: tuple[Path, ...]) -> tuple[Path, ...]:
    """The images, unless a folder holds none."""
    if images:
        return images
    others = sum(1 for _ in _files(folder, recursive=True))
    raise DatasetError(
        "holds no images",
        path=folder,
        expected=f"files that end in {', '.join(IMAGE_SUFFIXES)}",
        found=counted(others, "other file") if others else "an empty folder",
    )


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder that are not hidden, sorted."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def files_if_any(folder: Path) -> Iterator[Path]:
    """Files in a folder; none if there is no such folder."""
    return _files(folder, recursive=False) if folder.is_dir() else iter(())


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Every file that is not hidden; links to folders are followed, each folder once."""
    seen: set[Path] = set()
    for name, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(name)
        if here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        yield from (here / file for file in files if not file.startswith("."))
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if recursive else []


def _refuse(error: OSError) -> None:
    raise DatasetError(f"cannot be read ({error.strerror})", path=error.filename) from error
