"""The anomaly map, its smoothing and the image score, in NumPy.

Source:
    Zavrtanik et al., ICCV 2021, section 3.4, and the published evaluation: the softmax of the
    mask, a 21x21 mean filter at 256x256 with zeros beyond the border, and its maximum.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.config import ResolvedNetworkConfig

SMOOTHING_AT_256 = 21


def filter_side(height: int, width: int, smoothing: float = SMOOTHING_AT_256) -> int:
    """Side of the score's mean filter in pixels: odd, in proportion to the shorter side of the map.

    Args:
        height: Height of the map in pixels; of a tile if images are cut into tiles.
        width: Width of the map in pixels.
        smoothing: The side for maps whose shorter side is 256; 21 as published.

    Example:
        >>> filter_side(256, 256), filter_side(128, 512), filter_side(32, 32)
        (21, 11, 3)
    """
    half = round((smoothing * min(height, width) / 256 - 1) / 2)
    return 2 * max(0, half) + 1


def network_filter_side(network: ResolvedNetworkConfig) -> int:
    """`filter_side` of the maps of a network."""
    return filter_side(*network.image_size, network.smoothing)


def mean_filter(anomaly_map: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The mean-filtered map, zeros beyond the border.

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        side: Side of the filter in pixels.
    """
    smoothed = cv2.boxFilter(anomaly_map, cv2.CV_32F, (side, side), borderType=cv2.BORDER_CONSTANT)
    return np.asarray(smoothed, dtype=np.float32)


def anomaly_score(anomaly_map: NDArray[np.float32], side: int) -> float:
    """The image score: the maximum of the mean-filtered map, in [0, 1].

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        side: Side of the filter in pixels; see `filter_side`.
    """
    return float(mean_filter(anomaly_map, side).max())
