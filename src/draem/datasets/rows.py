"""Some images of many, read only when they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ImageRows:
    """Images that lie in one array, mapped from a file where memory would not hold them.

    Attributes:
        pixels: (stored, height, width, 3) uint8 RGB, not to be written to.
        rows: (images,) int64, where in `pixels` each image lies.
        folder: Where the file lies, with room for what is worked out from these images.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    folder: Path

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[place] for place in range(len(self)))

    @property
    def shape(self) -> tuple[int, ...]:
        """What the shape of an array of these images would be."""
        return (len(self.rows), *self.pixels.shape[1:])

    @property
    def nbytes(self) -> int:
        """How many bytes such an array would have."""
        return len(self.rows) * int(np.prod(self.pixels.shape[1:]))

    @overload
    def __getitem__(self, place: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, place: slice) -> NDArray[np.uint8]: ...
    def __getitem__(self, place: int | slice) -> NDArray[np.uint8]:
        return self.pixels[self.rows[place]]

    def part(self, start: int, stop: int) -> ImageRows:
        """The images from one place to another, unread."""
        return ImageRows(self.pixels, self.rows[start:stop], self.folder)
