"""Anomaly maps as colours, on one fixed scale, so that pictures of different parts compare.

The scale follows from the model's threshold alone, never from the map that is drawn.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_STRONGEST = 0.8
_STRONGEST_ANCHORED = 0.6
_THRESHOLD_LEVEL = 0.75
"""What of the colours, from 0 to 1, stands for the threshold: orange."""
_OUTLINE_SHARE = 1 / 400
_STRIP = 256


def heat(anomaly_map: NDArray[np.float32], threshold: float | None = None) -> NDArray[np.uint8]:
    """Colour an anomaly map: dark at 0, then blue, green and yellow, to red at 1.

    Args:
        anomaly_map: Values, (H, W), float32; those outside [0, 1] are clipped.
        threshold: Stretches the scale below it and squeezes it above, so that it is orange;
            without one, the scale is even.

    Returns:
        RGB pixels, (H, W, 3), uint8.
    """
    values = np.clip(anomaly_map, 0, 1)
    if threshold is not None:
        values = _anchored(values, threshold)
    levels = np.rint(values * np.float32(255)).astype(np.uint8)
    colored = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)  # BGR, (H, W, 3)
    return np.ascontiguousarray(colored[..., ::-1], dtype=np.uint8)


def _anchored(values: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Values in [0, 1] on a scale of two even parts that meet at the threshold."""
    bend = np.float32(_inside(threshold))
    below, above = _THRESHOLD_LEVEL / bend, (1 - _THRESHOLD_LEVEL) / (1 - bend)
    anchored = np.minimum(values, bend) * below + np.maximum(values - bend, 0) * above
    return anchored.astype(np.float32, copy=False)


def _inside(threshold: float) -> float:
    return min(max(threshold, 1e-6), 1 - 1e-6)


def overlay(
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    threshold: float | None = None,
) -> NDArray[np.uint8]:
    """Lay the colours of `heat` over an image.

    With a threshold the image shows untouched where the map is at most half of it; opacity grows
    from there to the threshold and stays, so that some of the defect shows through. Without one it
    grows from 0 to 0.5.

    Args:
        image: RGB pixels, (H, W, 3), uint8.
        anomaly_map: Values, (H, W), float32; those outside [0, 1] are clipped.
        threshold: Of the model.

    Returns:
        RGB pixels, (H, W, 3), uint8.
    """
    mixed = np.empty_like(image, order="C")
    # A strip at a time, as the float32 planes of a large image would take a dozen times its memory.
    for top in range(0, len(image), _STRIP):
        rows = slice(top, top + _STRIP)
        mixed[rows] = _overlaid(image[rows], anomaly_map[rows], threshold)
    return mixed


def _overlaid(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], threshold: float | None
) -> NDArray[np.uint8]:
    if threshold is None:
        strongest, share = _STRONGEST, 2 * anomaly_map
    else:
        factor = np.float32(2 / _inside(threshold))
        strongest, share = _STRONGEST_ANCHORED, factor * anomaly_map - 1
    if (share <= 0).all():
        return image
    opacity = np.float32(strongest) * np.clip(share, 0, 1)[..., None]  # (H, W, 1)
    mixed = image * (1 - opacity) + heat(anomaly_map, threshold) * opacity
    return np.rint(mixed).astype(np.uint8)


def outline(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    color: tuple[int, int, int] = (255, 32, 32),
) -> NDArray[np.uint8]:
    """Draw a line around every region of a mask, as thick as suits the image's size.

    The line runs outside the regions, so that it hides no part of a small defect; at the edge of
    the image, if there is no outside, it runs inside.

    Args:
        image: RGB pixels, (H, W, 3), uint8; left as they are.
        mask: True inside the regions, (H, W).
        color: The line's RGB colour.

    Returns:
        RGB pixels, (H, W, 3), uint8.
    """
    thickness = max(1, round(max(mask.shape) * _OUTLINE_SHARE))
    side = 2 * thickness + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    grown = np.asarray(cv2.dilate(mask.astype(np.uint8), disc), dtype=bool)
    kept = np.zeros_like(mask)
    inner = slice(thickness, -thickness)
    kept[inner, inner] = mask[inner, inner]
    drawn = image.copy()
    drawn[grown & ~kept] = color
    return drawn
