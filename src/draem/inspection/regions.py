"""Defect regions: where on the image the anomalous pixels lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.inspection.scoring import SMOOTHING_AT_256, smooth, smoothing_size


@dataclass(frozen=True, slots=True)
class Region:
    """One connected set of anomalous pixels.

    Attributes:
        box: x, y, width and height in pixels of the original image.
        area: Pixels of the original image.
        peak: Highest value of the anomaly map in it, in [0, 1].
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float


def find_regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    image_size: tuple[int, int],
    smoothing: float = SMOOTHING_AT_256,
) -> tuple[Region, ...]:
    """The regions that make an image anomalous.

    A region is a connected set of pixels whose map value reaches the threshold, within reach of
    the mean filter of a place where the smoothed map reaches it too. So an image has regions if
    and only if its score reaches the threshold.

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        threshold: The image threshold; compared with the map in float64, as the score is.
        image_size: Height and width of the original image, for boxes and areas.
        smoothing: Side of the score's mean filter at 256 pixels.

    Returns:
        The regions, highest peak first.
    """
    alarming = smooth(anomaly_map, smoothing).astype(np.float64) >= threshold
    if not alarming.any():
        return ()
    side = smoothing_size(anomaly_map.shape[0], anomaly_map.shape[1], smoothing)
    reach = cv2.dilate(alarming.astype(np.uint8), np.ones((side, side), np.uint8))
    marked = (anomaly_map.astype(np.float64) >= threshold).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    wanted = np.unique(labels[(reach > 0) & (marked > 0)])
    scale = image_size[0] * image_size[1] / anomaly_map.size
    regions = [
        Region(
            box=_scaled_box(stats[label], anomaly_map.shape, image_size),
            area=max(1, round(int(stats[label][cv2.CC_STAT_AREA]) * scale)),
            peak=_peak(anomaly_map, labels, stats[label], label),
        )
        for label in wanted
    ]
    return tuple(sorted(regions, key=lambda region: region.peak, reverse=True))


def moved(region: Region, right: int, down: int) -> Region:
    """A region that was found in a part of an image, in pixels of the whole.

    Args:
        region: In pixels of the part.
        right: The part's first column.
        down: The part's first row.
    """
    x, y, width, height = region.box
    return replace(region, box=(x + right, y + down, width, height))


def _peak(
    anomaly_map: NDArray[np.float32],
    labels: NDArray[Any],
    stats: NDArray[np.int32],
    label: int,
) -> float:
    # Looking at the region's box alone keeps many regions from costing the whole map each.
    left, top, width, height = stats[:4]
    box = slice(top, top + height), slice(left, left + width)
    return float(anomaly_map[box][labels[box] == label].max())


def _scaled_box(
    stats: NDArray[np.int32], map_size: tuple[int, ...], image_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The smallest box of whole image pixels around a box of map pixels; never beyond the image."""
    left, top, width, height = (int(value) for value in stats[:4])
    x = left * image_size[1] // map_size[1]
    y = top * image_size[0] // map_size[0]
    right = -(-(left + width) * image_size[1] // map_size[1])
    bottom = -(-(top + height) * image_size[0] // map_size[0])
    return x, y, right - x, bottom - y
