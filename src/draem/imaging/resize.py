"""Changing the size of images and anomaly maps, with OpenCV."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["bilinear", "area"]


def resize_image(
    image: NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> NDArray[np.uint8]:
    """Resize an image.

    Args:
        image: Pixels, (H, W) or (H, W, C), uint8.
        size: Height and width wanted, in pixels.
        interpolation: "bilinear" reads four neighbours for any factor, so fine structure
            aliases when shrinking; "area" averages all pixels that fall into one when shrinking,
            and is bilinear when enlarging.

    Returns:
        Pixels of the new size, uint8; the same array if the size is already right.

    Source:
        The published loader resizes with `cv2.resize` and its default, bilinear interpolation.
    """
    if image.shape[:2] == tuple(size):
        return image
    if interpolation == "area":
        smaller = min(image.shape[0], size[0]), min(image.shape[1], size[1])
        image = np.asarray(_resized(image, smaller, cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(_resized(image, size, cv2.INTER_LINEAR), dtype=np.uint8)


def resize_map(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bring an anomaly map to another size, bilinearly, so its range stays as it was.

    Args:
        anomaly_map: Values, (H, W), float32.
        size: Height and width wanted, in pixels.

    Returns:
        Values, (height, width), float32; the same array if the size is already right.
    """
    return np.asarray(_resized(anomaly_map, size, cv2.INTER_LINEAR), dtype=np.float32)


def shrink_map(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Shrink a map or a mask to the maxima of its parts, so that what is small stays seen.

    Args:
        plane: Values, (H, W), of any type with an order.
        size: Height and width wanted, in pixels, at most those of the plane.

    Returns:
        Values, (height, width), of the same type.

    Example:
        >>> shrink_map(np.array([[0, 9, 1, 2], [3, 0, 0, 0]]), (1, 2))
        array([[9, 2]])
    """
    starts = (
        np.arange(part) * whole // part for part, whole in zip(size, plane.shape, strict=True)
    )
    for axis, places in enumerate(starts):
        plane = np.maximum.reduceat(plane, places, axis=axis)
    return plane


def _resized(array: NDArray[Any], size: tuple[int, int], flag: int) -> NDArray[Any]:
    if array.shape[:2] == tuple(size):
        return array
    height, width = size
    resized = cv2.resize(array, (width, height), interpolation=flag)
    return np.asarray(resized).reshape(height, width, *array.shape[2:])  # OpenCV drops C = 1
