"""Tell what an earlier inspection wrote from photographs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from draem.errors import DatasetError

RESULTS = "results.jsonl"
"""What an inspection calls its file of results."""
PICTURES = ("maps", "overlays")
"""Likewise its folders of pictures, beside it."""


def without_results(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Leave out the maps and overlays that an inspection wrote, beside its file of results.

    Raises:
        DatasetError: There were files, and nothing is left of them.
    """

    @cache
    def written(folder: Path) -> bool:
        beside = folder.parent
        if folder.name in PICTURES and (beside / RESULTS).is_file():
            return True
        # Pictures lie in folders of their own where the images do.
        return beside != folder and written(beside)

    left = tuple(path for path in paths if not written(path.parent.resolve()))
    if paths and not left:
        raise DatasetError(
            "there are no images but maps and overlays of an earlier `draem inspect`",
            path=paths[0].parent,
            expected="photographs",
            hint="Name the images that were inspected",
        )
    return left
