"""Checkpoints that `torch.save` wrote, read without running what they may hold."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from draem.errors import ModelFileError

if TYPE_CHECKING:
    from torch import Tensor


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a foreign PyTorch checkpoint, running none of the code that it may hold.

    Args:
        path: A file that `torch.save` wrote from a state dict.

    Raises:
        ModelFileError: The file is missing, damaged, or holds anything but tensors by name.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise ModelFileError("there is no such checkpoint file", path=path)
    try:
        refuse_bomb(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a damaged file leads it to
        raise ModelFileError(
            "this is not a checkpoint that can be read safely",
            path=path,
            expected="a state dict of tensors, saved with torch.save",
            found="a damaged file, one of another kind, or one that holds code, which is never run",
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ModelFileError(
            "this checkpoint does not hold a state dict",
            path=path,
            expected="tensors by name, saved with torch.save(model.state_dict(), path)",
            found=type(state).__name__,
        )
    return state


def refuse_bomb(path: Path) -> None:
    """Refuse a file of `torch.save` whose parts would take far more memory than the file has.

    torch never compresses, but its reader unpacks: 1.5 kB took 4 GB.

    Raises:
        ValueError: It is such a file.
        OSError: It cannot be read.
    """
    if not zipfile.is_zipfile(path):  # the format before, which holds every byte that it fills
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    compressed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if compressed or sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts are compressed, or larger than it is")
