"""Textures from formulas: anomaly sources that need no image files.

Each function, called without its canvas, gives a pattern: called with a `Canvas`, that draws one
grey field, which a colour ramp paints. Lengths are in shares of the canvas's shorter side, so that
any size shows the same pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import cv2
import numpy as np
import numpy.typing as npt

from draem.simulation.canvas import Canvas, Floats

Field = npt.NDArray[Any]
Pattern = Callable[[Canvas], Floats]
P = ParamSpec("P")


def _pattern(draw: Callable[Concatenate[Canvas, P], Field]) -> Callable[P, Pattern]:
    """Take the canvas last: `grating(0, 24)(canvas)` draws `grating(canvas, 0, 24)`."""

    def settings(*args: P.args, **kwargs: P.kwargs) -> Pattern:
        return lambda canvas: np.asarray(draw(canvas, *args, **kwargs), np.float32)

    settings.__doc__ = draw.__doc__
    return settings


@_pattern
def grating(canvas: Canvas, degrees: float, cycles: float, sharpness: float = 0.0) -> Field:
    """Parallel bars, sinusoidal or with hard edges."""
    along, _ = canvas.turned(degrees)
    wave = np.sin(along * np.float32(2 * math.pi * cycles))
    return np.tanh(wave * sharpness) if sharpness else wave


@_pattern
def stripes(canvas: Canvas, degrees: float, cycles: float) -> Field:
    """Bars of random widths, wavering and dusty."""
    along, _ = canvas.turned(degrees)
    tones = canvas.rng.uniform(-1, 1, 512).astype(np.float32)
    place = (along + 2 + 0.01 * canvas.fractal(3.0)) * cycles
    return tones[place.astype(int) % 512] + 0.15 * canvas.white()


@_pattern
def checker(canvas: Canvas, degrees: float, cycles: float) -> Field:
    """A chessboard with slightly uneven squares."""
    along, across = canvas.turned(degrees)
    first, second = np.floor(along * cycles).astype(int), np.floor(across * cycles).astype(int)
    tones = canvas.rng.uniform(-0.3, 0.3, (64, 64)).astype(np.float32)
    return (first + second) % 2 + tones[first % 64, second % 64]


@_pattern
def weave(canvas: Canvas, degrees: float, cycles: float, twill: int) -> Field:
    """Threads over and under each other; `twill` is how many a thread passes over."""
    along, across = canvas.turned(degrees)
    along, across = along * cycles + 64, across * cycles + 64
    over = (np.floor(along) + np.floor(across)) % (twill + 1) < twill
    warp = np.sin((along % 1) * math.pi) * (0.75 + 0.25 * np.cos(across * 2 * math.pi))
    weft = np.sin((across % 1) * math.pi) * (0.55 + 0.25 * np.cos(along * 2 * math.pi))
    return np.where(over, warp, 0.7 * weft) + 0.07 * canvas.white()


@_pattern
def herringbone(canvas: Canvas, cycles: float) -> Field:
    """Slanted threads that change side in columns."""
    column = np.abs((canvas.x * cycles) % 2 - 1)
    return np.sin((canvas.y * cycles * 4 + column * 3) * 2 * math.pi) + 0.2 * canvas.white()


@_pattern
def bricks(canvas: Canvas, rows: float, ratio: float) -> Field:
    """Courses of rough bricks with light joints."""
    course = np.floor(canvas.y * rows).astype(int)
    place = canvas.x * rows / ratio + 0.5 * (course % 2)
    brick = np.floor(place).astype(int)
    tones = canvas.rng.uniform(0, 0.45, (64, 64)).astype(np.float32)
    edge = np.minimum((canvas.y * rows) % 1, ((place % 1) * ratio))
    face = tones[course % 64, brick % 64] + 0.08 * canvas.fractal(1.5, low=4)
    return np.where(edge < 0.1, 1 + 0.06 * canvas.white(), face)


@_pattern
def cells(canvas: Canvas, count: int, show: str, stretch: float = 1.0) -> Field:
    """Voronoi cells around random points.

    Args:
        canvas: What to draw on.
        count: How many cells a square of the shorter side holds, about.
        show: `distance` to the nearest point, `mosaic` of flat tones, or `joints` between cells.
        stretch: How many times a cell is as wide as it is high.
    """
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
    return wide_field + 0.03 * field.std() * canvas.white()


@_pattern
def dots(canvas: Canvas, cycles: float, radius: float) -> Field:
    """Round dots in offset rows; the radius is in shares of a row."""
    row = np.floor(canvas.y * cycles)
    right = (canvas.x * cycles + 0.5 * (row % 2)) % 1 - 0.5
    down = (canvas.y * cycles) % 1 - 0.5
    distance = np.sqrt(right**2 + down**2)
    return np.tanh((radius - distance) * 16) + 0.05 * canvas.white()


@_pattern
def blobs(canvas: Canvas, count: int, largest: float, hollow: bool = False) -> Field:
    """Discs, or rings, of random size and tone over each other."""
    rows, columns = canvas.x.shape
    field = np.zeros((rows, columns), np.float32)
    for _ in range(count):
        centre = (int(canvas.rng.integers(columns)), int(canvas.rng.integers(rows)))
        radius = max(1, round(canvas.rng.uniform(0.15, 1) * largest * canvas.side))
        tone = (float(canvas.rng.uniform(0.2, 1)),)
        line = max(1, radius // 6) if hollow else cv2.FILLED
        cv2.circle(field, centre, radius, tone, line, cv2.LINE_AA)
    return field + 0.04 * canvas.white()


@_pattern
def fibres(canvas: Canvas, count: int, length: float, thickness: float) -> Field:
    """Short straight threads lying in all directions."""
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
    return field + 0.05 * canvas.white()


@_pattern
def rings(canvas: Canvas, cycles: float, x: float, y: float, stretch: float, rough: float) -> Field:
    """Growth rings of wood around a point, stretched upwards and roughened."""
    distance = np.hypot(canvas.x - x, (canvas.y - y) / stretch) + rough * canvas.fractal(
        5.0, high=12
    )
    saw = (distance * cycles) % 1
    pores = canvas.blurred(0.002, 0.03)
    return saw**2 + 0.12 * pores


@_pattern
def marble(canvas: Canvas, degrees: float, cycles: float, rough: float) -> Field:
    """Veins: a wave pushed about by fractal noise."""
    along, _ = canvas.turned(degrees)
    wave = np.sin((along * cycles + rough * canvas.fractal(4.4)) * 2 * math.pi)
    return 1 - np.abs(wave) ** 0.5


@_pattern
def cracks(canvas: Canvas, power: float, low: float, width: float) -> Field:
    """Ridges along the zero lines of fractal noise."""
    ridges = np.exp(-((canvas.fractal(power, low=low) / width) ** 2))
    return ridges + 0.12 * canvas.fractal(1.0)


@_pattern
def band(canvas: Canvas, low: float, high: float, sharpness: float = 0.0) -> Field:
    """Noise between two frequencies; hardened, it becomes a labyrinth as of coral."""
    field = canvas.fractal(0.0, low=low, high=high)
    return np.tanh(field * sharpness) if sharpness else field


@_pattern
def clouds(canvas: Canvas, power: float) -> Field:
    """Fractal noise over a slanted gradient."""
    along, _ = canvas.turned(float(canvas.rng.uniform(0, 360)))
    return canvas.fractal(power) + 1.5 * along


@_pattern
def grain(canvas: Canvas, size: float) -> Field:
    """Speckle of one size."""
    return canvas.blurred(size, size)


@_pattern
def brushed(canvas: Canvas, along: float, across: float, degrees: float = 0.0) -> Field:
    """Fine lines of one direction."""
    field = canvas.blurred(along, across) + 0.4 * canvas.blurred(along / 3, across)
    if not degrees:
        return field
    rows, columns = field.shape
    reach = 1.0 / (abs(math.cos(math.radians(degrees))) + abs(math.sin(math.radians(degrees))))
    move = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1 / reach)
    return cv2.warpAffine(field, move, (columns, rows), borderMode=cv2.BORDER_REFLECT)


@_pattern
def scales(canvas: Canvas, rows: float) -> Field:
    """Overlapping round scales, lighter towards their rims."""
    field = np.zeros_like(canvas.x)
    for layer in (0, 1):
        down = canvas.y * rows + 0.5 * layer
        right = (canvas.x * rows + 0.5 * layer) % 1 - 0.5
        distance = np.hypot(right, down % 1)
        field = np.where(distance < 0.52, 0.2 + distance * 1.5, field)
    return field + 0.05 * canvas.white()


@_pattern
def spiral(canvas: Canvas, arms: int, twist: float) -> Field:
    """Arms that wind around the middle."""
    right, down = canvas.x - canvas.x.mean(), canvas.y - canvas.y.mean()
    distance = np.log(np.hypot(right, down) + 0.01)
    return np.tanh(3 * np.sin(arms * np.arctan2(down, right) + twist * distance))


@_pattern
def lattice(canvas: Canvas, waves: int, cycles: float) -> Field:
    """Waves from several directions: 3 give hexagons, 5 a pattern that never repeats."""
    fields = [canvas.turned(180 * wave / waves)[0] for wave in range(waves)]
    return np.sum([np.cos(along * 2 * math.pi * cycles) for along in fields], axis=0)


@_pattern
def ripples(canvas: Canvas, centres: int, cycles: float) -> Field:
    """Circular waves around several points, crossing each other."""
    points = canvas.rng.uniform(-0.2, 1.2, (centres, 2))
    distances = [np.hypot(canvas.x - x, canvas.y - y) for x, y in points]
    return np.sum([np.sin(away * 2 * math.pi * cycles) for away in distances], axis=0)


@_pattern
def contours(canvas: Canvas, power: float, levels: float) -> Field:
    """Fractal noise in steps, as heights on a map."""
    return np.floor(canvas.fractal(power) * levels) % 3


@_pattern
def tartan(canvas: Canvas, cycles: float) -> Field:
    """Bars of random tones across each other, over a fine twill."""
    tones = canvas.rng.uniform(0, 1, (2, 64)).astype(np.float32)
    across = tones[0][(canvas.x * cycles).astype(int) % 64]
    down = tones[1][(canvas.y * cycles).astype(int) % 64]
    return across + down + 0.2 * np.sin((canvas.x + canvas.y) * cycles * 8 * math.pi)


@_pattern
def blocks(canvas: Canvas, cycles: float) -> Field:
    """Squares that are black or white at random."""
    cells = canvas.rng.integers(0, 2, (256, 256)).astype(np.float32)
    return cells[(canvas.y * cycles).astype(int) % 256, (canvas.x * cycles).astype(int) % 256]


@_pattern
def arcs(canvas: Canvas, cycles: float) -> Field:
    """Quarter circles in square tiles, turned at random, that join into winding paths."""
    turned = canvas.rng.integers(0, 2, (64, 64)).astype(bool)
    rows, columns = (canvas.y * cycles).astype(int) % 64, (canvas.x * cycles).astype(int) % 64
    down, right = (canvas.y * cycles) % 1, (canvas.x * cycles) % 1
    right = np.where(turned[rows, columns], 1 - right, right)
    away = np.minimum(np.hypot(right, down), np.hypot(1 - right, 1 - down))
    return np.tanh((0.15 - np.abs(away - 0.5)) * 20)


@_pattern
def leaves(canvas: Canvas, count: int, largest: float) -> Field:
    """Ellipses of all sizes and directions that hide each other, the small ones most frequent."""
    rows, columns = canvas.x.shape
    field = np.zeros((rows, columns), np.float32)
    for _ in range(count):
        centre = (int(canvas.rng.integers(columns)), int(canvas.rng.integers(rows)))
        longer = largest * canvas.side / canvas.rng.uniform(1, 20)
        axes = (max(1, round(longer)), max(1, round(longer * canvas.rng.uniform(0.3, 1))))
        turn, tone = float(canvas.rng.uniform(0, 180)), (float(canvas.rng.uniform(0.1, 1)),)
        cv2.ellipse(field, centre, axes, turn, 0, 360, tone, cv2.FILLED, cv2.LINE_AA)
    return field + 0.02 * canvas.white()
