"""Perlin noise written from its definition: one pixel at a time, in double precision."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence


def source_point(row: int, column: int, size: tuple[int, int], degrees: float) -> complex:
    """The point (column + row * 1j) that a pixel shows of a picture turned anticlockwise."""
    height, width = size
    middle = complex((width - 1) / 2, (height - 1) / 2)
    # Rows grow downwards, so the plane is mirrored before and after it is turned back.
    upright = (complex(column, row) - middle).conjugate()
    return (upright * cmath.exp(-1j * math.radians(degrees))).conjugate() + middle


def slow_perlin(
    size: tuple[int, int],
    cells: tuple[int, int],
    degrees: float,
    angles: Sequence[Sequence[float]],
) -> list[list[float]]:
    """A whole noise picture."""
    picture = []
    for row in range(size[0]):
        line = []
        for column in range(size[1]):
            point = source_point(row, column, size, degrees)
            y, x = point.imag * cells[0] / size[0], point.real * cells[1] / size[1]
            line.append(slow_perlin_at(y, x, angles))
        picture.append(line)
    return picture


def slow_perlin_at(y: float, x: float, angles: Sequence[Sequence[float]]) -> float:
    """The noise at one point of the lattice: four corners, each with its weight."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for node_y in (top, top + 1):
        for node_x in (left, left + 1):
            angle = float(angles[node_y % len(angles)][node_x % len(angles[0])])
            slope = math.cos(angle) * (y - node_y) + math.sin(angle) * (x - node_x)
            total += slope * _weight(abs(y - node_y)) * _weight(abs(x - node_x))
    return math.sqrt(2) * total


def _weight(distance: float) -> float:
    return 1 - (6 * distance**5 - 15 * distance**4 + 10 * distance**3)
