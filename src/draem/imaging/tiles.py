"""Large images as overlapping tiles: where they lie, and how what is made of them is joined."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where the tiles of one image lie.

    Attributes:
        image_size: Height and width of the image in pixels.
        tile_size: Height and width of every tile.
        tops: First row of each row of tiles, rising from 0.
        lefts: First column of each column of tiles, rising from 0.
    """

    image_size: tuple[int, int]
    tile_size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def count(self) -> int:
        """Tiles in all."""
        return len(self.tops) * len(self.lefts)

    def places(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each tile, in reading order."""
        height, width = self.tile_size
        for top, left in itertools.product(self.tops, self.lefts):
            yield slice(top, top + height), slice(left, left + width)


def plan_tiles(image_size: tuple[int, int], tile_size: tuple[int, int], overlap: int) -> TileGrid:
    """Cover an image with tiles that overlap by so many pixels.

    The last tile of a row or column is moved back to end with the image, so it overlaps by more.
    Along a side that is shorter than a tile there is one tile, which reaches beyond it.

    Args:
        image_size: Height and width in pixels.
        tile_size: Height and width of a tile in pixels.
        overlap: Of neighbours, in pixels, at most half of a tile's shorter side.

    Raises:
        InputError: The overlap is out of range.

    Example:
        >>> plan_tiles((40, 100), (64, 64), 16).lefts, plan_tiles((40, 113), (64, 64), 16).lefts
        ((0, 36), (0, 48, 49))
    """
    most = min(tile_size) // 2
    if not 0 <= overlap <= most:
        raise InputError(
            "tiles cannot overlap by so much",
            expected=f"0 to {most} pixels, half of a tile",
            found=str(overlap),
        )
    tops, lefts = (
        (*range(0, max(length - side, 0), side - overlap), max(length - side, 0))
        for length, side in zip(image_size, tile_size, strict=True)
    )
    return TileGrid(image_size, tile_size, tops, lefts)


def at_least_a_tile(image: NDArray[np.uint8], tile_size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image, mirrored at its right and bottom if it is smaller than a tile.

    Args:
        image: (height, width, 3) uint8.
        tile_size: Height and width in pixels.

    Returns:
        The same array if it is large enough.
    """
    lacking = [max(0, side - length) for length, side in zip(image.shape, tile_size, strict=False)]
    if not any(lacking):
        return image
    return np.pad(image, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="reflect")


def cut_tiles(image: NDArray[np.uint8], grid: TileGrid) -> Iterator[NDArray[np.uint8]]:
    """The tiles of an image in reading order, without copying any.

    Args:
        image: (height, width, 3) uint8, of the grid's image size.
        grid: From `plan_tiles`.

    Yields:
        (tile height, tile width, 3) uint8.
    """
    whole = at_least_a_tile(image, grid.tile_size)
    return (whole[place] for place in grid.places())


def join_tiles(tiles: Iterable[NDArray[np.uint8]], grid: TileGrid) -> NDArray[np.uint8]:
    """The image that `cut_tiles` made these of, pixel for pixel.

    Args:
        tiles: (tile height, tile width, 3) uint8 each, in reading order.
        grid: The one that they were cut by.

    Returns:
        (height, width, 3) uint8.
    """
    image = np.empty((*grid.image_size, 3), np.uint8)
    for tile, place in zip(tiles, grid.places(), strict=True):
        room = image[place]
        room[...] = tile[: room.shape[0], : room.shape[1]]
    return image


def blend_shares(starts: tuple[int, ...], side: int, overlap: int) -> list[NDArray[np.float32]]:
    """How to mix tiles one after the other along an axis, so that no seam shows.

    Every tile weighs 1 but for ramps of `overlap` pixels at its ends, and the mix is the mean by
    these weights. Two neighbours' ramps are squares of sine and cosine, which sum to 1. They fade
    out what a network makes of a tile's edge, beyond which it sees nothing. At the image's own edge
    there is only one tile, so it counts in full.

    Args:
        starts: First pixel of each tile, rising from 0.
        side: Length of a tile.
        overlap: Of neighbours; of those that overlap by more, both count in full in between.

    Returns:
        For each tile (side,) in (0, 1]: what `mix_in` takes.
    """
    ramp = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    weights = np.concatenate((ramp, np.ones(side - 2 * overlap), ramp[::-1]))
    total = np.zeros(starts[-1] + side)
    shares = []
    for start in starts:
        so_far = total[start : start + side]
        so_far += weights
        shares.append((weights / so_far).astype(np.float32))
    return shares


def mix_in(below: NDArray[Any], piece: NDArray[Any], share: NDArray[np.float32]) -> None:
    """Mix a tile into what is below it, in place: below + share * (piece - below).

    This is the mean of all that was mixed in so far, and where all agree it is exactly what they
    say; a sum of weighted tiles would be a rounding error away.

    Args:
        below: Of any shape, float32, or uint8, which is rounded to.
        piece: Of the same shape.
        share: Of a shape that fits it; 1 if nothing is below yet.
    """
    mixed = np.subtract(piece, below, dtype=np.float32)
    mixed *= share
    mixed += below
    below[...] = np.rint(mixed, out=mixed) if below.dtype == np.uint8 else mixed
