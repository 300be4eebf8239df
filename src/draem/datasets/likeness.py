"""Which neighbours in a series of pictures are so alike that they show one part."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draem.datasets.image_source import fingerprint
from draem.errors import counted
from draem.imaging.resize import resize_image

SIDE = 16
"""Side of a thumbnail in pixels: shows the part, but little of its texture and noise."""
REACH = 6
"""How many places in number order apart two pictures of one part may be: those of two parts may
take turns."""
FEWEST = 32
"""Fewer pictures say too little of how alike two random ones are."""

_SHIFT = 1
"""How many pixels of a thumbnail one picture may be off the other, either way."""
_CHANCE = 0.002
"""Share of the random pairs that are at least as alike as neighbours must be."""
_DARK = 16
"""The highest value of 12 bits in a 16-bit file, 4095, comes out as this level of 255."""
_PAIRS = 20_000
_CLEAR = 0.1
"""Share of the pictures that must be so alike to one of the next: 8 times what chance gives."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is kept of a picture in order to group it.

    Attributes:
        digest: Hash of its pixels.
        thumbnail: (16, 16) float32, the picture in grey with mean 0 and length 1, so that
            brightness and contrast do not count; zeros if it is flat.
        lowest: The lowest level of all pixels and channels, 0 to 255.
        highest: The highest.
    """

    digest: str
    thumbnail: NDArray[np.float32]
    lowest: int
    highest: int


def look_at(image: NDArray[np.uint8]) -> Look:
    """Reduce a picture, (height, width, 3) uint8, to what groups it."""
    image = np.ascontiguousarray(image)
    small = resize_image(image, (SIDE, SIDE), "area").astype(np.float32).mean(axis=2)
    thumbnail = _normalised(small[None])[0]
    return Look(fingerprint(image), thumbnail, int(image.min()), int(image.max()))


def warn_of_dark_or_flat(looks: Sequence[Look]) -> None:
    """Log a warning if pictures hold next to nothing.

    Args:
        looks: `look_at` of each; at least one.
    """
    log = logging.getLogger("draem")
    flat = sum(look.lowest == look.highest for look in looks)
    if flat:
        log.warning(
            "warning: %d of %s without any contrast, such as all black. Remove them, or check "
            "the camera.",
            flat,
            counted(len(looks), "image"),
        )
    highest = max(look.highest for look in looks)
    if highest <= _DARK and flat < len(looks):
        log.warning(
            "warning: the brightest level of all images is %d of 255, so there is little to see. "
            "If these are 12-bit values in 16-bit files, multiply them by 16 first; otherwise "
            "check the light.",
            highest,
        )


def like_neighbours(thumbnails: Sequence[NDArray[np.float32]]) -> list[tuple[int, int]]:
    """Pairs of pictures, at most six places apart, that show one part by their likeness.

    Likeness is the correlation of thumbnails, at the best shift of up to a pixel, from which the
    mean of all was taken: what every picture shows says nothing. Two neighbours are alike if only 1
    in 500 random pairs, which are further apart, is. Nothing is found unless at least 1 in 10
    pictures is so alike to one of the next 6: in a series without pictures of one part in a row,
    only chance would be found.

    Args:
        thumbnails: Of `Look`, in the order of the series.

    Returns:
        Two places in the series each.
    """
    count = len(thumbnails)
    if count < FEWEST:
        return []
    pictures = np.stack(thumbnails)
    pictures = pictures - pictures.mean(axis=0)
    places = np.arange(count)
    bound = _bound_of_chance(pictures)
    pairs = [
        (int(place), int(place) + apart)
        for apart in range(1, REACH + 1)
        for place in np.flatnonzero(
            _correlations(pictures, places[:-apart], places[apart:]) > bound
        )
    ]
    return pairs if len({first for first, _ in pairs}) >= _CLEAR * count else []


def _bound_of_chance(pictures: NDArray[np.float32]) -> float:
    """The correlation that only few random pairs exceed."""
    # The pairs are always the same ones, so that the groups are.
    pairs = np.random.default_rng(0).integers(0, len(pictures), (_PAIRS, 2))
    first, second = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) > REACH].T
    return float(np.quantile(_correlations(pictures, first, second), 1 - _CHANCE))


def _correlations(
    pictures: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Correlation of each pair, of the middle of one and the best place in the other."""
    side = SIDE - 2 * _SHIFT
    middles = _normalised(pictures[:, _SHIFT : _SHIFT + side, _SHIFT : _SHIFT + side])[first]
    best = np.full(len(first), -1, np.float32)
    for top in range(2 * _SHIFT + 1):
        for left in range(2 * _SHIFT + 1):
            others = _normalised(pictures[:, top : top + side, left : left + side])[second]
            best = np.maximum(best, np.einsum("nij,nij->n", middles, others))
    return best


def _normalised(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, height, width) of mean 0 and length 1 each; what is flat up to rounding becomes zeros."""
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    lengths = np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float32] = np.divide(
        centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-3
    )
    return scaled
