"""Many images of one size, in memory or in one mapped file per image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from draem.errors import DatasetError, InputError, OutputError
from draem.files import write_text

_FINGERPRINT = re.compile("[0-9a-f]{16}")
_PART = 16
"""Images that a fingerprint reads at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageSource:
    """Images of one size, read when they are taken.

    Attributes:
        shape: Number of images, 3, height and width.
        pixels: (images, 3, height, width) uint8 RGB in memory; None if they are in files.
        files: For each image its `.npy` file, which holds (some images, 3, height, width) uint8,
            and its row in that file; empty if the images are in memory.
        folder: Folder of the files; None if the images are in memory.
    """

    shape: tuple[int, int, int, int]
    pixels: NDArray[np.uint8] | None = None
    files: tuple[tuple[Path, int], ...] = ()
    folder: Path | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, place: slice) -> NDArray[np.uint8]: ...
    def __getitem__(self, place: int | slice) -> NDArray[np.uint8]:
        """One image, (height, width, 3), or several, (images, height, width, 3)."""
        if isinstance(place, slice):
            return self.take(range(len(self))[place]).transpose(0, 2, 3, 1)
        return self.take([range(len(self))[place]])[0].transpose(1, 2, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return int(np.prod(self.shape))

    def take(self, places: Sequence[int]) -> NDArray[np.uint8]:
        """Some images, (images, 3, height, width); they may share memory with the source.

        Raises:
            DatasetError: A file has gone or is damaged.
        """
        if self.pixels is not None:
            if isinstance(places, range) and places.step == 1:
                return self.pixels[places.start : places.stop]
            return self.pixels[list(places)]
        taken = np.empty((len(places), *self.shape[1:]), np.uint8)
        for number, place in enumerate(places):
            _read_row(*self.files[place], taken[number])
        return taken

    def part(self, start: int, stop: int) -> ImageSource:
        """The images from one place to another, without reading them."""
        shape = (stop - start, *self.shape[1:])
        if self.pixels is not None:
            return ImageSource(shape, self.pixels[start:stop])
        return ImageSource(shape, None, self.files[start:stop], self.folder)

    def reorder(self, places: NDArray[np.int64]) -> ImageSource:
        """The images in another order; those in memory are moved, so this source is used up."""
        if self.pixels is not None:
            _permute(self.pixels, places)
            return self
        return ImageSource(self.shape, None, tuple(self.files[i] for i in places), self.folder)

    def fingerprint(self) -> str:
        """`fingerprint` of the images; computed only once for images in files."""
        parts = (self[start : start + _PART] for start in range(0, len(self), _PART))
        count, channels, height, width = self.shape
        shape = (count, height, width, channels)
        if self.folder is None:
            return fingerprint_of(shape, parts)
        # The name of a file is a hash of all that decides its pixels.
        names = "".join(f"{path.name} {row}\n" for path, row in self.files)
        known = self.folder / "fingerprints" / hashlib.sha256(names.encode()).hexdigest()
        with suppress(OSError, UnicodeDecodeError):
            text = known.read_text(encoding="ascii")
            if _FINGERPRINT.fullmatch(text):  # the file may be damaged
                return text
        found = fingerprint_of(shape, parts)
        with suppress(OSError, OutputError):
            known.parent.mkdir(exist_ok=True)
            write_text(known, found)
        return found


def in_memory(images: NDArray[np.uint8]) -> ImageSource:
    """A source over (images, 3, height, width) uint8 RGB in memory.

    Raises:
        InputError: The array has another type or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            "these are no images that draem can use",
            expected="a uint8 array (images, 3, height, width)",
            found=f"{images.dtype} {images.shape}",
        )
    count, channels, height, width = images.shape
    return ImageSource((count, channels, height, width), images)


def from_rgb(images: NDArray[np.uint8]) -> ImageSource:
    """A source over (images, height, width, 3) uint8 RGB in memory."""
    return in_memory(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def fingerprint(images: NDArray[np.uint8]) -> str:
    """Tell one set of decoded images from another.

    Args:
        images: Pixels, (images, height, width, 3), uint8; their order counts.

    Returns:
        16 hexadecimal digits of the SHA-256 of shape and pixels.
    """
    return fingerprint_of(images.shape, [images])


def fingerprint_of(shape: tuple[int, ...], parts: Iterable[NDArray[np.uint8]]) -> str:
    """`fingerprint` of an array of this shape that is given in parts, in order."""
    digest = hashlib.sha256(repr(shape).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


def _permute(rows: NDArray[np.uint8], places: NDArray[np.int64]) -> None:
    """`rows[:] = rows[places]` with room for only one more row: the images may fill the memory."""
    moved = np.zeros(len(rows), np.bool_)
    for start in range(len(rows)):
        if moved[start] or places[start] == start:
            continue
        first, place = rows[start].copy(), start
        while places[place] != start:
            rows[place] = rows[places[place]]
            moved[place] = True
            place = int(places[place])
        rows[place] = first
        moved[place] = True


def _read_row(path: Path, row: int, into: NDArray[np.uint8]) -> None:
    """Read one array of those in an `.npy` file.

    The file is not mapped: if it shrank, or its disk failed, the system would end the process.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if shape[1:] != into.shape or dtype != into.dtype:
                raise ValueError("another array")
            file.seek(row * into.nbytes, os.SEEK_CUR)
            if file.readinto(into.data) != into.nbytes:
                raise EOFError
    except Exception as error:  # NumPy raises whatever a damaged header leads it to
        raise DatasetError(
            "a decoded image in the cache has gone or is damaged",
            path=path,
            hint="Run the command again; it decodes the image anew",
        ) from error
