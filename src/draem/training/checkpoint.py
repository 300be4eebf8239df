"""The state that a run is resumed from, in one file that is replaced whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from draem.errors import OutputError, TrainingError
from draem.files import replacing
from draem.foreign_checkpoint import refuse_bomb

FORMAT = 2
"""Format 1 was PyTorch Lightning's."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: Where to; an existing file is replaced.
        state: Tensors, numbers and strings by name.

    Raises:
        OutputError: The disk is full, or the folder cannot be written to.
    """
    with replacing(path) as temporary:
        try:
            torch.save({"format": FORMAT, **state}, temporary)
        except RuntimeError as error:  # torch's word for a full disk
            raise OutputError(
                "cannot be written",
                path=path,
                found=str(error).splitlines()[0],
                hint="Make room on the disk, then go on with --resume",
            ) from error


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint on the CPU; None if the run has none yet.

    Raises:
        TrainingError: The file is damaged, or another version of draem wrote it.
    """
    if not path.exists():
        return None
    try:
        refuse_bomb(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load raises whatever a damaged file leads it to
        raise TrainingError(
            "the checkpoint is damaged",
            path=path,
            hint="Delete it to start this run from its beginning with --resume",
        ) from error
    found = state.get("format", 1) if isinstance(state, dict) else None
    if found != FORMAT:
        raise TrainingError(
            "another version of draem wrote this checkpoint",
            path=path,
            expected=f"format {FORMAT}",
            found=f"format {found}",
            hint="Finish the run with that version, or delete the checkpoint to start this run "
            "from its beginning with --resume",
        )
    return state
