"""Names of the files that an inspection writes, and how to tell them from photographs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from draem.errors import DatasetError

RESULTS = "results.jsonl"
"""What an inspection calls its file of results."""
INCOMPLETE = "results.jsonl.incomplete"
"""Next to them until all images are done: results with it were cut short, or are being written."""
PICTURES = ("maps", "overlays")
"""Its folders of pictures, next to the results."""


def picture_names(paths: Sequence[Path]) -> list[str]:
    """A PNG name for each image, with its folders below the common parent of all images.

    Names are numbered if several would be the same, also on file systems that ignore case.

    Args:
        paths: Image files.

    Returns:
        Relative paths with `/`, one per image.
    """
    folders = [_safe(folder) for folder in _folders(paths)]
    # No picture may take the name of a folder, which holds other pictures.
    taken = {"/".join(parts[:end]).lower() for parts in folders for end in range(1, len(parts) + 1)}
    numbers: dict[str, int] = {}
    names = []
    for path, parts in zip(paths, folders, strict=True):
        stem = "/".join((*parts, *_safe((path.stem,))))
        name, key = f"{stem}.png", stem.lower()
        while name.lower() in taken:
            numbers[key] = numbers.get(key, 1) + 1
            name = f"{stem}-{numbers[key]}.png"
        taken.add(name.lower())
        names.append(name)
    return names


def _folders(paths: Sequence[Path]) -> list[tuple[str, ...]]:
    """The folders of each image below the common parent of all."""
    parents = [Path(os.path.normpath(Path.cwd() / path.parent)) for path in paths]
    try:
        common = os.path.commonpath(parents)
    except ValueError:  # drives without a common parent, or no images at all
        return [()] * len(paths)
    return [parent.relative_to(common).parts for parent in parents]


def _safe(parts: Sequence[str]) -> tuple[str, ...]:
    # Keep clear of the limit of 255 bytes a name that file systems set.
    return tuple(part.encode(errors="replace")[:200].decode(errors="ignore") for part in parts)


def without_results(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Leave out the maps and overlays that an inspection wrote next to its results.

    Raises:
        DatasetError: There were files, and nothing is left of them.
    """

    @cache
    def written(folder: Path) -> bool:
        parent = folder.parent
        if folder.name in PICTURES and (parent / RESULTS).is_file():
            return True
        # Pictures are in folders of their own if the images are.
        return parent != folder and written(parent)

    left = tuple(path for path in paths if not written(path.parent.resolve()))
    if paths and not left:
        raise DatasetError(
            "there are no images but maps and overlays of an earlier `draem inspect`",
            path=paths[0].parent,
            expected="photographs",
            hint="Name the images that were inspected",
        )
    return left
