"""Defect regions: connected sets of anomalous pixels on the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Region:
    """One connected set of anomalous pixels.

    Attributes:
        box: x, y, width and height in pixels of the original image.
        area: Pixels of the original image, those of holes not counted.
        peak: Highest value of the anomaly map in it, in [0, 1].
        mean: Mean value of the anomaly map in it, in [0, 1].
        contour: Corners (x, y) of its outer edge, in pixels of the original image, in order. The
            line runs between pixels: (0, 0) is the top left corner of the top left pixel. It
            encloses holes too.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    mean: float
    contour: tuple[tuple[float, float], ...]


def find_regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    image_size: tuple[int, int],
    smoothed: NDArray[np.float32],
    side: int,
    *,
    pixel_threshold: float | None = None,
) -> tuple[Region, ...]:
    """The regions that make an image anomalous.

    A region is a connected set of marked pixels within reach of the mean filter of a place where
    the smoothed map reaches the image threshold. A pixel is marked if it reaches the pixel
    threshold; around a place where none does, pixels that reach the image threshold are marked. So
    an image has regions if and only if its score reaches the image threshold.

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        threshold: The image threshold; compared with the map in float64, as the score is.
        image_size: Height and width of the original image, for boxes and areas.
        smoothed: The mean-filtered map.
        side: Side of its filter in pixels.
        pixel_threshold: Compared in the same way; the image threshold if omitted.

    Returns:
        The regions, highest peak first.
    """
    alarming = smoothed.astype(np.float64) >= threshold
    if not alarming.any():
        return ()
    reach = cv2.dilate(alarming.astype(np.uint8), np.ones((side, side), np.uint8))
    marked = _marked(anomaly_map.astype(np.float64), threshold, pixel_threshold, reach)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    wanted = np.unique(labels[(reach > 0) & (marked > 0)])
    regions = [_region(anomaly_map, labels, stats[label], label, image_size) for label in wanted]
    return tuple(sorted(regions, key=lambda region: region.peak, reverse=True))


def translated(region: Region, right: int, down: int) -> Region:
    """A region found in a part of an image, in pixels of the whole.

    Args:
        region: In pixels of the part.
        right: The part's first column.
        down: The part's first row.
    """
    x, y, width, height = region.box
    return replace(
        region,
        box=(x + right, y + down, width, height),
        contour=tuple((corner_x + right, corner_y + down) for corner_x, corner_y in region.contour),
    )


def region_mask(region: Region, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels that a region's contour encloses, those of its holes included.

    Args:
        region: In pixels of the image.
        size: Height and width of the image.

    Returns:
        (height, width) bool: whether the pixel's centre is inside.
    """
    inside = np.zeros(size, np.bool_)
    # The contour runs along rows and columns. Right of each vertical edge, inside and outside swap.
    for (x, y), (_, end) in zip(
        region.contour, (*region.contour[1:], region.contour[0]), strict=True
    ):
        left, top, bottom = (math.ceil(place - 0.5) for place in (x, min(y, end), max(y, end)))
        inside[top:bottom, left:] ^= True
    return inside


def _marked(
    values: NDArray[np.float64],
    threshold: float,
    pixel_threshold: float | None,
    reach: NDArray[Any],
) -> NDArray[np.uint8]:
    """The pixels that may make up regions: 1 where marked."""
    if pixel_threshold is None:
        return (values >= threshold).astype(np.uint8)
    marked = values >= pixel_threshold
    _, places = cv2.connectedComponents(reach, connectivity=8)
    empty = ~np.isin(places, places[marked]) & (places > 0)
    return (marked | (empty & (values >= threshold))).astype(np.uint8)


def outer_contour(inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The polygon around a connected set of pixels, along the edges of the pixels.

    Its area is the number of pixels, those of holes included. Where pixels touch by a corner alone,
    it passes through that corner twice.

    Args:
        inside: (height, width) bool, connected also by corners.

    Returns:
        (corners, 2) x and y, whole numbers; (0, 0) is the top left corner of the top left pixel.
    """
    # Each pixel becomes four, so that every corner of the edge has a pixel of its own, whose place
    # tells the corner: 2x stands for x, the left side of pixel x, and 2x + 1 for x + 1.
    enlarged = inside.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
    (traced,), _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners = (np.asarray(traced, np.int32)[:, 0] + 1) // 2  # (points, 2)
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(corners[turns], np.int32)


def _region(
    anomaly_map: NDArray[np.float32],
    labels: NDArray[Any],
    stats: NDArray[np.int32],
    label: int,
    image_size: tuple[int, int],
) -> Region:
    # Looking at the region's box alone keeps many regions from costing the whole map each.
    left, top, width, height = (int(value) for value in stats[:4])
    box = slice(top, top + height), slice(left, left + width)
    inside = labels[box] == label
    values = anomaly_map[box][inside]
    down, right = image_size[0] / anomaly_map.shape[0], image_size[1] / anomaly_map.shape[1]
    corners = np.add(outer_contour(inside), (left, top)) * (right, down)
    return Region(
        box=_scaled_box(stats, anomaly_map.shape, image_size),
        area=max(1, round(len(values) * image_size[0] * image_size[1] / anomaly_map.size)),
        peak=float(values.max()),
        mean=float(values.mean(dtype=np.float64)),
        contour=tuple((round(x, 2), round(y, 2)) for x, y in corners.tolist()),
    )


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
