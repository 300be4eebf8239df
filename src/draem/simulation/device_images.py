"""Images on the device where batches are made, or fetched there when a batch needs them."""

from __future__ import annotations

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
from torch import Tensor

from draem.datasets.image_source import ImageSource
from draem.files import explained_output

_CHUNK = 2**23
"""Bytes of images that are read together if all are read."""
_DEVICE_SHARE = 0.5
_WITH_FOREGROUND = 4 / 3
_HINT = "Make room for a third of the cache next to it, or name another place with --cache-dir"


@dataclass(frozen=True, slots=True, eq=False)
class DeviceImages:
    """Images, or what was computed for each of them, as a simulator uses them.

    Attributes:
        shape: Number of images, channels, height and width.
        device: Where batches are made.
        stored: (images, channels, height, width) uint8 on any device; None to read the source.
        source: The images in the host's memory or in files.
    """

    shape: tuple[int, ...]
    device: torch.device
    stored: Tensor | None = None
    source: ImageSource | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return int(np.prod(self.shape))

    @property
    def folder(self) -> Path | None:
        """Folder on the disk for what is computed for each image; None for memory."""
        return self.source.folder if self.source is not None and self.stored is None else None

    def take(self, places: Tensor) -> Tensor:
        """Some images, (places, channels, height, width) uint8, on the device."""
        if self.stored is not None:
            # On a CPU this copies whole images, while indexing goes element by element.
            return self.stored.index_select(0, places.to(self.stored.device)).to(self.device)
        assert self.source is not None
        return torch.from_numpy(self.source.take(places.tolist())).to(self.device)

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """All images, a few at a time so that memory stays bounded.

        Yields:
            The place of the first, and (some, channels, height, width) uint8 on the device.
        """
        step = max(1, _CHUNK // max(1, self.nbytes // max(1, len(self))))
        for start in range(0, len(self), step):
            yield start, self.take(torch.arange(start, min(start + step, len(self))))

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor for something computed for each image.

        It is in a mapped file without a name if the images are in files, otherwise in the memory
        that holds the images.

        Raises:
            OutputError: The disk is full.
        """
        if self.folder is None:
            place = torch.device("cpu") if self.stored is None else self.stored.device
            return torch.empty(shape, dtype=dtype, device=place)
        numpy_type: Any = torch.empty(0, dtype=dtype).numpy().dtype
        size = int(np.prod(shape)) * numpy_type.itemsize
        with explained_output(self.folder, _HINT), _nameless_file(self.folder) as file:
            # On a full disk writing to a mapping would kill the process; this raises.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return torch.from_numpy(np.asarray(np.memmap(file, numpy_type, "r+", shape=shape)))

    def computed(self, stored: Tensor) -> DeviceImages:
        """What was computed for each image, for the same device."""
        return DeviceImages(tuple(stored.shape), self.device, stored)


def resident(images: Tensor) -> DeviceImages:
    """Images that are on their device: (images, channels, height, width) uint8."""
    return DeviceImages(tuple(images.shape), images.device, images)


def place_images(source: ImageSource, device: torch.device) -> DeviceImages:
    """Move images to a device if they fit there; otherwise fetch them batch by batch.

    Args:
        source: Images in memory or in files.
        device: Where batches are made.
    """
    fetched = DeviceImages(source.shape, device, None, source)
    if device.type != "cuda":
        return fetched if source.pixels is None else resident(_shared(source))
    if not _fits(source.nbytes, device):
        return fetched
    stored = torch.empty(source.shape, dtype=torch.uint8, device=device)
    for start, chunk in fetched.chunks():
        stored[start : start + len(chunk)] = chunk
    return resident(stored)


def _shared(source: ImageSource) -> Tensor:
    with warnings.catch_warnings():
        # Nothing here writes to normal images.
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.from_numpy(source.pixels)


def _fits(nbytes: int, device: torch.device) -> bool:
    """Whether a GPU has room for images and their foreground."""
    free, _ = torch.cuda.mem_get_info(device)
    return nbytes * _WITH_FOREGROUND <= _DEVICE_SHARE * free


def _nameless_file(folder: Path) -> Any:
    # A cache that can only be read is enough.
    with suppress(OSError):
        return tempfile.TemporaryFile(dir=folder)
    return tempfile.TemporaryFile()
