"""AUPRO written from its definition: every distinct score a threshold, every region a loop."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def slow_pro_points(
    maps: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]]
) -> list[tuple[float, float]]:
    """Points (false-positive rate, mean overlap) from the highest threshold to the lowest."""
    eight_neighbours = np.ones((3, 3), dtype=int)
    normal_pixels = sum(int((~mask).sum()) for mask in masks)
    points = [(0.0, 0.0)]
    for threshold in sorted({float(score) for plane in maps for score in plane.flat}, reverse=True):
        false_positives = 0
        overlaps = []
        for plane, mask in zip(maps, masks, strict=True):
            marked = plane >= np.float64(threshold)
            false_positives += int((marked & ~mask).sum())
            labels, count = ndimage.label(mask, structure=eight_neighbours)
            for number in range(1, count + 1):
                region = labels == number
                overlaps.append((marked & region).sum() / region.sum())
        points.append((false_positives / normal_pixels, float(np.mean(overlaps))))
    return points


def slow_aupro(
    maps: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]], fpr_limit: float
) -> float:
    """The area below the points up to the limit, trapezium by trapezium, over the limit."""
    points = slow_pro_points(maps, masks)
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 <= fpr_limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < fpr_limit:
            y_end = y0 + (y1 - y0) * (fpr_limit - x0) / (x1 - x0)
            area += (fpr_limit - x0) * (y0 + y_end) / 2
    return area / fpr_limit
