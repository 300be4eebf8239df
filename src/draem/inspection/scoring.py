"""The anomaly map, its smoothing and the image score, in NumPy.

Source:
    Zavrtanik et al., ICCV 2021, section 3.4, and the published evaluation: the softmax of the
    mask, a 21x21 mean filter at 256x256 with zeros beyond the border, and its maximum.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SMOOTHING_AT_256 = 21


def smoothing_size(height: int, width: int, smoothing: float = SMOOTHING_AT_256) -> int:
    """Side of the mean filter, in proportion to the shorter side of the map, odd.

    Args:
        height: Of the map.
        width: Likewise.
        smoothing: The side for maps whose shorter side is 256; 21 as published.

    Example:
        >>> smoothing_size(256, 256), smoothing_size(128, 512), smoothing_size(32, 32)
        (21, 11, 3)
    """
    half = round((smoothing * min(height, width) / 256 - 1) / 2)
    return 2 * max(0, half) + 1


def smoothing_for(side: int, height: int, width: int) -> float:
    """What `smoothing_size` makes this side of, for a map whose filter goes by another size.

    Example:
        >>> smoothing_size(100, 90, smoothing_for(5, 100, 90))
        5
    """
    return side * 256 / min(height, width)


def anomaly_maps(mask_logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The softmax probability of the anomalous class.

    Args:
        mask_logits: (batch, 2, height, width) float32.

    Returns:
        (batch, height, width) float32 in [0, 1].
    """
    with np.errstate(over="ignore"):
        difference = mask_logits[:, 1] - mask_logits[:, 0]  # (batch, height, width)
    # Written with the exponential of a number that is never positive, which cannot overflow.
    small = np.exp(-np.abs(difference))
    maps = np.where(difference >= 0, 1 / (1 + small), small / (1 + small))
    return np.asarray(maps, dtype=np.float32)


def smooth(
    anomaly_map: NDArray[np.float32], smoothing: float = SMOOTHING_AT_256
) -> NDArray[np.float32]:
    """The mean-filtered map, zeros beyond the border.

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        smoothing: Side of the filter at 256 pixels.
    """
    side = smoothing_size(anomaly_map.shape[0], anomaly_map.shape[1], smoothing)
    return mean_filter(anomaly_map, side)


def mean_filter(anomaly_map: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The mean over squares of so many pixels a side, zeros beyond the border."""
    smoothed = cv2.boxFilter(anomaly_map, cv2.CV_32F, (side, side), borderType=cv2.BORDER_CONSTANT)
    return np.asarray(smoothed, dtype=np.float32)


def anomaly_score(anomaly_map: NDArray[np.float32], smoothing: float = SMOOTHING_AT_256) -> float:
    """The image score: the maximum of the smoothed map, in [0, 1].

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        smoothing: Side of the filter at 256 pixels.
    """
    return float(smooth(anomaly_map, smoothing).max())
