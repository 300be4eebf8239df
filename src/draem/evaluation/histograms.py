"""Pixel scores counted in three histograms, from which every pixel metric follows.

Memory does not grow with the number of images, and histograms gathered by several processes,
or for several defect types, add up.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError

LEVELS = 65_536

# A softmax crowds its scores against 0 and 1, so levels are spaced by the float32 bit pattern,
# finest where scores decide. All constants are powers of two and all arithmetic is exact.
_BITS_OF_HALF = 0x3F00_0000
_OCTAVE = 23  # one octave is 1 << 23 bit patterns

# From 0.5 up: 2,048 levels an octave of (1 - p) + 2^-13, which for p above 1 - 2^-13 is one level
# for every float32 there is.
_UPPER_SHIFT = 12
_UPPER_PLUS = np.float32(2.0**-13)
_UPPER_START = int(_UPPER_PLUS.view(np.int32))

_HALF_PLUS = int((np.float32(0.5) + _UPPER_PLUS).view(np.int32))
_HALF_LEVEL = LEVELS - 1 + ((_UPPER_START - _HALF_PLUS) >> _UPPER_SHIFT)
_UPPER_END = _UPPER_START + ((LEVELS - 1 - _HALF_LEVEL) << _UPPER_SHIFT)

# Below 0.5: 4,096 levels an octave down to 2^-7, 1,024 down to 2^-15, then 256 down to about 2^-47;
# smaller scores share level 0. Each straight piece is (shift, offset); the highest one counts.
_BITS_AT_7 = _BITS_OF_HALF - (6 << _OCTAVE)
_BITS_AT_15 = _BITS_OF_HALF - (14 << _OCTAVE)
_OFFSET_FINE = _HALF_LEVEL - (_BITS_OF_HALF >> 11)
_OFFSET_MIDDLE = _OFFSET_FINE + (_BITS_AT_7 >> 11) - (_BITS_AT_7 >> 13)
_OFFSET_COARSE = _OFFSET_MIDDLE + (_BITS_AT_15 >> 13) - (_BITS_AT_15 >> 15)
_LOWER_PIECES = ((11, _OFFSET_FINE), (13, _OFFSET_MIDDLE), (15, _OFFSET_COARSE))


def score_levels(scores: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Sort scores into 65,536 levels that rise with the score.

    Args:
        scores: float32 in [0, 1], of one dimension or more; not checked.

    Returns:
        uint16, the shape of `scores`; 0 for a score of 0 and 65,535 only for a score of 1.

    Examples:
        >>> score_levels(np.array([0, 1e-9, 0.5, 1 - 1e-6, 1], np.float32)).tolist()
        [0, 4368, 40958, 65518, 65535]
    """
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    bits = scores.view(np.int32)
    levels, piece = np.empty_like(bits), np.empty_like(bits)
    (shift, offset), *finer = _LOWER_PIECES
    np.right_shift(bits, shift, out=levels)
    levels += offset
    for shift, offset in finer:
        np.right_shift(bits, shift, out=piece)
        piece += offset
        np.maximum(levels, piece, out=levels)
    # NumPy vectorizes a clip by two numbers, but neither minimum nor maximum with one.
    np.clip(levels, 0, _HALF_LEVEL, out=levels)
    upper = piece.view(np.float32)
    np.clip(scores, np.float32(0.5), np.float32(1), out=upper)
    np.subtract(np.float32(1) + _UPPER_PLUS, upper, out=upper)
    np.subtract(_UPPER_END, piece, out=piece)
    piece >>= _UPPER_SHIFT
    levels += piece
    return levels.astype(np.uint16)


@functools.cache
def level_scores() -> NDArray[np.float64]:
    """The lowest score of each level.

    Thresholding scores at `level_scores()[k]` decides exactly as taking the levels from `k` up.

    Returns:
        (65536,) float64, strictly rising from 0 to 1, each a float32 value; read-only.

    Examples:
        >>> levels = score_levels(level_scores().astype(np.float32))
        >>> bool((levels == np.arange(65_536)).all())
        True
    """
    lower = np.arange(_HALF_LEVEL, dtype=np.int64)
    bits = np.min([(lower - offset) << shift for shift, offset in _LOWER_PIECES], axis=0)
    bits[0] = 0
    down_from_top = np.arange(LEVELS - 1 - _HALF_LEVEL, -1, -1, dtype=np.int64)
    upper = _UPPER_START + (down_from_top << _UPPER_SHIFT)
    below_half = bits.astype(np.int32).view(np.float32)
    from_half = np.float32(1) + _UPPER_PLUS - upper.astype(np.int32).view(np.float32)
    scores = np.concatenate([below_half, np.maximum(from_half, 0.5)]).astype(np.float64)
    scores.flags.writeable = False
    return scores


@dataclass(slots=True, eq=False)
class PixelHistograms:
    """Counts of pixels by score level; the whole state of the pixel metrics.

    A region is an 8-connected component of a true mask.

    Attributes:
        normal: (65536,) int64, normal pixels, of normal and of anomalous images.
        anomalous: (65536,) int64, anomalous pixels.
        region_share: (65536,) float64, anomalous pixels, each weighing one over the number of
            pixels of its region.
        regions: The number of regions.
    """

    normal: NDArray[np.int64]
    anomalous: NDArray[np.int64]
    region_share: NDArray[np.float64]
    regions: int

    @classmethod
    def empty(cls) -> PixelHistograms:
        """Histograms of no image."""
        return cls(
            normal=np.zeros(LEVELS, np.int64),
            anomalous=np.zeros(LEVELS, np.int64),
            region_share=np.zeros(LEVELS, np.float64),
            regions=0,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory the histograms take, for any number of images."""
        return self.normal.nbytes + self.anomalous.nbytes + self.region_share.nbytes

    def update(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> None:
        """Count one image.

        Args:
            anomaly_map: (height, width) float32 in [0, 1].
            mask: (height, width) bool, the true defect pixels; None for a normal image.

        Raises:
            InputError: The map is not a plane of numbers in [0, 1], or the mask does not fit it.
        """
        _check_map(anomaly_map)
        if mask is not None:
            _check_mask(mask, anomaly_map.shape)
        levels = score_levels(anomaly_map).astype(np.intp)
        # Added in place: np.bincount would make, fill and add 65,536 counts for every image.
        np.add.at(self.normal, levels.ravel(), 1)
        if mask is not None:
            self._move_anomalous(levels, mask)

    def _move_anomalous(self, levels: NDArray[np.intp], mask: NDArray[np.bool_]) -> None:
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
        if width == 0:
            return
        box = slice(y, y + height), slice(x, x + width)
        mask = np.ascontiguousarray(mask[box])
        labels, region_of_pixel = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        region = region_of_pixel[mask]  # (anomalous pixels,), from 1
        inside = levels[box][mask]  # (anomalous pixels,)
        np.subtract.at(self.normal, inside, 1)
        np.add.at(self.anomalous, inside, 1)
        np.add.at(self.region_share, inside, 1 / np.bincount(region)[region])
        self.regions += labels - 1

    def __add__(self, other: PixelHistograms) -> PixelHistograms:
        """Histograms of the images of both; neither changes."""
        return PixelHistograms(
            normal=self.normal + other.normal,
            anomalous=self.anomalous + other.anomalous,
            region_share=self.region_share + other.region_share,
            regions=self.regions + other.regions,
        )


def _check_map(anomaly_map: NDArray[np.float32]) -> None:
    if anomaly_map.ndim != 2 or anomaly_map.size == 0 or anomaly_map.dtype.kind != "f":
        raise InputError(
            "the anomaly map cannot be counted",
            expected="float32 of shape (height, width)",
            found=f"{anomaly_map.dtype} of shape {anomaly_map.shape}",
        )
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            "the anomaly map cannot be counted",
            expected="numbers in [0, 1]",
            found=f"values from {low:g} to {high:g}",
            hint="Check that the model's weights and its input are finite",
        )


def _check_mask(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> None:
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise InputError(
            "the true mask does not fit the anomaly map",
            expected=f"bool of shape {shape}",
            found=f"{mask.dtype} of shape {mask.shape}",
            hint="Resize the mask to the map and make it true or false with binarize_mask",
        )
