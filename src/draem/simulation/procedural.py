"""Textures from formulas: anomaly sources that need no image files.

Each pattern is a function of a `Canvas` that returns one grey field; a colour ramp paints it.
Lengths are in shares of the canvas's shorter side, so that any size shows the same pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from draem.simulation.canvas import Canvas, Floats

Pattern = Callable[[Canvas], Floats]


def grating(degrees: float, cycles: float, sharpness: float = 0.0) -> Pattern:
    """Parallel bars, sinusoidal or with hard edges."""

    def draw(canvas: Canvas) -> Floats:
        along, _ = canvas.turned(degrees)
        wave = np.sin(along * np.float32(2 * math.pi * cycles))
        return np.asarray(np.tanh(wave * sharpness) if sharpness else wave, np.float32)

    return draw


def stripes(degrees: float, cycles: float) -> Pattern:
    """Bars of random widths, wavering and dusty."""

    def draw(canvas: Canvas) -> Floats:
        along, _ = canvas.turned(degrees)
        tones = canvas.rng.uniform(-1, 1, 512).astype(np.float32)
        place = (along + 2 + 0.01 * canvas.fractal(3.0)) * cycles
        return np.asarray(tones[place.astype(int) % 512] + 0.15 * canvas.white(), np.float32)

    return draw


def checker(degrees: float, cycles: float) -> Pattern:
    """A chessboard with slightly uneven squares."""

    def draw(canvas: Canvas) -> Floats:
        along, across = canvas.turned(degrees)
        first, second = np.floor(along * cycles).astype(int), np.floor(across * cycles).astype(int)
        tones = canvas.rng.uniform(-0.3, 0.3, (64, 64)).astype(np.float32)
        return np.asarray((first + second) % 2 + tones[first % 64, second % 64], np.float32)

    return draw


def weave(degrees: float, cycles: float, twill: int) -> Pattern:
    """Threads over and under each other; `twill` is how many a thread passes over."""

    def draw(canvas: Canvas) -> Floats:
        along, across = canvas.turned(degrees)
        along, across = along * cycles + 64, across * cycles + 64
        over = (np.floor(along) + np.floor(across)) % (twill + 1) < twill
        warp = np.sin((along % 1) * math.pi) * (0.75 + 0.25 * np.cos(across * 2 * math.pi))
        weft = np.sin((across % 1) * math.pi) * (0.55 + 0.25 * np.cos(along * 2 * math.pi))
        return np.asarray(np.where(over, warp, 0.7 * weft) + 0.07 * canvas.white(), np.float32)

    return draw


def herringbone(cycles: float) -> Pattern:
    """Slanted threads that change side in columns."""

    def draw(canvas: Canvas) -> Floats:
        column = np.abs((canvas.x * cycles) % 2 - 1)
        return np.asarray(
            np.sin((canvas.y * cycles * 4 + column * 3) * 2 * math.pi) + 0.2 * canvas.white(),
            np.float32,
        )

    return draw


def bricks(rows: float, ratio: float) -> Pattern:
    """Courses of rough bricks with light joints."""

    def draw(canvas: Canvas) -> Floats:
        course = np.floor(canvas.y * rows).astype(int)
        place = canvas.x * rows / ratio + 0.5 * (course % 2)
        brick = np.floor(place).astype(int)
        tones = canvas.rng.uniform(0, 0.45, (64, 64)).astype(np.float32)
        edge = np.minimum((canvas.y * rows) % 1, ((place % 1) * ratio))
        face = tones[course % 64, brick % 64] + 0.08 * canvas.fractal(1.5, low=4)
        return np.asarray(np.where(edge < 0.1, 1 + 0.06 * canvas.white(), face), np.float32)

    return draw


def cells(count: int, show: str, stretch: float = 1.0) -> Pattern:
    """Voronoi cells around random points.

    Args:
        count: How many cells a square of the shorter side holds, about.
        show: `distance` to the nearest point, `mosaic` of flat tones, or `joints` between cells.
        stretch: How many times a cell is as wide as it is high.
    """

    def draw(canvas: Canvas) -> Floats:
        rows, columns = canvas.x.shape
        wide = max(8, round(columns / stretch))
        number = max(3, round(count * rows * columns / canvas.side**2))
        seeds = np.ones((rows, wide), np.uint8)
        seeds[canvas.rng.integers(0, rows, number), canvas.rng.integers(0, wide, number)] = 0
        distance, labels = cv2.distanceTransformWithLabels(
            seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        field = distance.astype(np.float32) / canvas.side
        if show == "mosaic":
            field = canvas.rng.uniform(0, 1, number + 1).astype(np.float32)[labels]
        if show == "joints":
            edges = cv2.morphologyEx(
                labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)
            )
            away = cv2.distanceTransform((edges == 0).astype(np.uint8), cv2.DIST_L2, 5)
            field = np.tanh(away / canvas.side * math.sqrt(count) * 5)
        flag = cv2.INTER_NEAREST if show == "mosaic" else cv2.INTER_LINEAR
        wide_field = cv2.resize(field, (columns, rows), interpolation=flag)
        return np.asarray(wide_field + 0.03 * field.std() * canvas.white(), np.float32)

    return draw


def dots(cycles: float, radius: float) -> Pattern:
    """Round dots in offset rows; the radius is in shares of a row."""

    def draw(canvas: Canvas) -> Floats:
        row = np.floor(canvas.y * cycles)
        right = (canvas.x * cycles + 0.5 * (row % 2)) % 1 - 0.5
        down = (canvas.y * cycles) % 1 - 0.5
        distance = np.sqrt(right**2 + down**2)
        return np.asarray(np.tanh((radius - distance) * 16) + 0.05 * canvas.white(), np.float32)

    return draw


def blobs(count: int, largest: float, hollow: bool = False) -> Pattern:
    """Discs, or rings, of random size and tone over each other."""

    def draw(canvas: Canvas) -> Floats:
        rows, columns = canvas.x.shape
        field = np.zeros((rows, columns), np.float32)
        for _ in range(count):
            centre = (int(canvas.rng.integers(columns)), int(canvas.rng.integers(rows)))
            radius = max(1, round(canvas.rng.uniform(0.15, 1) * largest * canvas.side))
            tone = (float(canvas.rng.uniform(0.2, 1)),)
            line = max(1, radius // 6) if hollow else cv2.FILLED
            cv2.circle(field, centre, radius, tone, line, cv2.LINE_AA)
        return np.asarray(field + 0.04 * canvas.white(), np.float32)

    return draw


def fibres(count: int, length: float, thickness: float) -> Pattern:
    """Short straight threads lying in all directions."""

    def draw(canvas: Canvas) -> Floats:
        rows, columns = canvas.x.shape
        field = np.zeros((rows, columns), np.float32)
        width = max(1, round(thickness * canvas.side))
        for _ in range(count):
            x, y = canvas.rng.uniform(0, columns), canvas.rng.uniform(0, rows)
            turn = canvas.rng.uniform(0, math.pi)
            reach = length * canvas.side * canvas.rng.uniform(0.4, 1) / 2
            right, down = reach * math.cos(turn), reach * math.sin(turn)
            ends = [(round(x + s * right), round(y + s * down)) for s in (-1, 1)]
            tone = (float(canvas.rng.uniform(0.2, 1)),)
            cv2.line(field, ends[0], ends[1], tone, width, cv2.LINE_AA)
        return np.asarray(field + 0.05 * canvas.white(), np.float32)

    return draw


def rings(cycles: float, x: float, y: float, stretch: float, rough: float) -> Pattern:
    """Growth rings of wood around a point, stretched upwards and roughened."""

    def draw(canvas: Canvas) -> Floats:
        distance = np.hypot(canvas.x - x, (canvas.y - y) / stretch) + rough * canvas.fractal(
            5.0, high=12
        )
        saw = (distance * cycles) % 1
        pores = canvas.blurred(0.002, 0.03)
        return np.asarray(saw**2 + 0.12 * pores, np.float32)

    return draw


def marble(degrees: float, cycles: float, rough: float) -> Pattern:
    """Veins: a wave pushed about by fractal noise."""

    def draw(canvas: Canvas) -> Floats:
        along, _ = canvas.turned(degrees)
        wave = np.sin((along * cycles + rough * canvas.fractal(4.4)) * 2 * math.pi)
        return np.asarray(1 - np.abs(wave) ** 0.5, np.float32)

    return draw


def cracks(power: float, low: float, width: float) -> Pattern:
    """Ridges along the zero lines of fractal noise."""

    def draw(canvas: Canvas) -> Floats:
        ridges = np.exp(-((canvas.fractal(power, low=low) / width) ** 2))
        return np.asarray(ridges + 0.12 * canvas.fractal(1.0), np.float32)

    return draw


def band(low: float, high: float, sharpness: float = 0.0) -> Pattern:
    """Noise between two frequencies; hardened, it becomes a labyrinth as of coral."""

    def draw(canvas: Canvas) -> Floats:
        field = canvas.fractal(0.0, low=low, high=high)
        return np.asarray(np.tanh(field * sharpness) if sharpness else field, np.float32)

    return draw


def clouds(power: float) -> Pattern:
    """Fractal noise over a slanted gradient."""

    def draw(canvas: Canvas) -> Floats:
        along, _ = canvas.turned(float(canvas.rng.uniform(0, 360)))
        return np.asarray(canvas.fractal(power) + 1.5 * along, np.float32)

    return draw


def grain(size: float) -> Pattern:
    """Speckle of one size."""
    return lambda canvas: canvas.blurred(size, size)


def brushed(along: float, across: float, degrees: float = 0.0) -> Pattern:
    """Fine lines of one direction."""

    def draw(canvas: Canvas) -> Floats:
        field = canvas.blurred(along, across) + 0.4 * canvas.blurred(along / 3, across)
        if not degrees:
            return np.asarray(field, np.float32)
        rows, columns = field.shape
        reach = 1.0 / (abs(math.cos(math.radians(degrees))) + abs(math.sin(math.radians(degrees))))
        move = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1 / reach)
        turned = cv2.warpAffine(field, move, (columns, rows), borderMode=cv2.BORDER_REFLECT)
        return np.asarray(turned, np.float32)

    return draw


def scales(rows: float) -> Pattern:
    """Overlapping round scales, lighter towards their rims."""

    def draw(canvas: Canvas) -> Floats:
        field = np.zeros_like(canvas.x)
        for layer in (0, 1):
            down = canvas.y * rows + 0.5 * layer
            right = (canvas.x * rows + 0.5 * layer) % 1 - 0.5
            distance = np.hypot(right, down % 1)
            field = np.where(distance < 0.52, 0.2 + distance * 1.5, field)
        return np.asarray(field + 0.05 * canvas.white(), np.float32)

    return draw
