"""Pictures that lie elsewhere than where batches are made: in a GPU's host, or on the disk."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draem.files import explained_output

_CHUNK = 2**23
"""Bytes of pictures that are looked at together where all are looked at."""
_DEVICE_SHARE = 0.5
_WITH_FOREGROUND = 4 / 3
_HINT = "Make room for a third of the cache beside it, or name another place with --cache-dir"


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures that stay where they are until a batch needs some of them.

    Stands in for a tensor (pictures, channels, height, width) where pictures are only counted,
    measured and taken.

    Attributes:
        stored: (stored, channels, height, width) uint8, in memory or mapped from a file.
        rows: (pictures,) int64 on the CPU, which of them.
        device: Where batches are made of them.
        folder: Room on the disk for what is worked out for each picture; None: memory.
    """

    stored: Tensor
    rows: Tensor
    device: torch.device
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pictures, channels, height and width."""
        return (len(self), *self.stored.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.stored.ndim

    @property
    def dtype(self) -> torch.dtype:
        """Type of the pixels."""
        return self.stored.dtype

    def __getitem__(self, places: Tensor | slice) -> Tensor:
        """Some of the pictures, on the device."""
        rows = self.rows[places] if isinstance(places, slice) else self.located(places)
        return self.stored[rows].contiguous().to(self.device)

    def located(self, places: Tensor) -> Tensor:
        """Where pictures lie in `stored`."""
        return self.rows[places.to(self.rows.device)]


def mapped_pictures(pixels: NDArray[np.uint8], rows: NDArray[np.int64], folder: Path) -> Pictures:
    """Pictures of an array that is mapped from a file; nothing is read.

    Args:
        pixels: (stored, height, width, 3) uint8, which may be read-only.
        rows: (pictures,) where each of them lies.
        folder: Where the file lies.
    """
    with warnings.catch_warnings():
        # Nothing here writes to normal images.
        warnings.filterwarnings("ignore", message=".*not writable")
        stored = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return Pictures(stored, torch.from_numpy(rows), torch.device("cpu"), folder)


def to_device(pictures: Tensor | Pictures, device: torch.device) -> Tensor | Pictures:
    """Pictures for batches on a device: moved there where they fit, taken there where not.

    Args:
        pictures: Wherever they lie.
        device: Where batches are to be made.
    """
    if pictures.device == device:
        return pictures
    there = (
        dataclasses.replace(pictures, device=device)
        if isinstance(pictures, Pictures)
        else all_of(pictures, device)
    )
    if not _fits(pictures, device):
        return there
    moved = torch.empty(there.shape, dtype=there.dtype, device=device)
    for start, chunk in chunks(there):
        moved[start : start + len(chunk)] = chunk
    return moved


def taken(pictures: Tensor | Pictures, places: Tensor) -> Tensor:
    """Some pictures, (places, channels, height, width), on the device where batches are made."""
    if isinstance(pictures, Pictures):
        return pictures[places]
    # On a CPU this copies whole pictures, where indexing goes element by element.
    return pictures.index_select(0, places.to(pictures.device))


def all_of(stored: Tensor, device: torch.device, folder: Path | None = None) -> Pictures:
    """All pictures of a tensor, taken to a device when a batch needs them."""
    return Pictures(stored, torch.arange(len(stored)), device, folder)


def chunks(pictures: Tensor | Pictures) -> Iterator[tuple[int, Tensor]]:
    """All pictures, so many at a time that memory stays bounded.

    Yields:
        The place of the first, and (some, channels, height, width) on the device.
    """
    step = max(1, _CHUNK // max(1, _nbytes(pictures) // max(1, len(pictures))))
    for start in range(0, len(pictures), step):
        yield start, pictures[start : start + step]


def room_beside(pictures: Tensor | Pictures, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room for what is worked out for each picture, of any content.

    Args:
        pictures: Beside which it lies: on the disk for pictures on the disk, in the memory of the
            device where they lie themselves otherwise.
        shape: Of the room.
        dtype: Likewise.

    Raises:
        OutputError: The disk is full.
    """
    if isinstance(pictures, Tensor) or pictures.folder is None:
        place = pictures if isinstance(pictures, Tensor) else pictures.stored
        return torch.empty(shape, dtype=dtype, device=place.device)
    numpy_type: Any = torch.empty(0, dtype=dtype).numpy().dtype
    size = int(np.prod(shape)) * numpy_type.itemsize
    with explained_output(pictures.folder, _HINT), _nameless_file(pictures.folder) as file:
        # On a full disk writing to a mapping would kill the process; this raises.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return torch.from_numpy(np.asarray(np.memmap(file, numpy_type, "r+", shape=shape)))


def _nameless_file(folder: Path) -> Any:
    # A cache that may only be read serves too.
    with suppress(OSError):
        return tempfile.TemporaryFile(dir=folder)
    return tempfile.TemporaryFile()


def _nbytes(pictures: Tensor | Pictures) -> int:
    return int(np.prod(pictures.shape)) * pictures.dtype.itemsize


def _fits(pictures: Tensor | Pictures, device: torch.device) -> bool:
    """Whether a device has room for pictures and what is worked out for each of them."""
    if device.type != "cuda":
        return not isinstance(pictures, Pictures)
    free, _ = torch.cuda.mem_get_info(device)
    return _nbytes(pictures) * _WITH_FOREGROUND <= _DEVICE_SHARE * free
