"""Polygons from their definition, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Corners = Sequence[tuple[float, float]]


def polygon_area(corners: Corners) -> float:
    """By the shoelace formula."""
    following = [*corners[1:], corners[0]]
    return abs(sum(x * v - u * y for (x, y), (u, v) in zip(corners, following, strict=True))) / 2


def is_inside(x: float, y: float, corners: Corners) -> bool:
    """Whether a ray from the point to the right crosses the polygon an odd number of times."""
    crossings = 0
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y1 <= y) != (y2 <= y):
            crossings += x < x1 + (y - y1) / (y2 - y1) * (x2 - x1)
    return crossings % 2 == 1


def draw_polygon(corners: Corners, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside."""
    height, width = size
    return np.array(
        [[is_inside(x + 0.5, y + 0.5, corners) for x in range(width)] for y in range(height)]
    )
