"""Surface defects of the procedural product, each drawn as what it is: a change of the part.

None of them uses Perlin noise or a pasted texture, so a detector trained on DRAEM's simulated
anomalies has seen nothing of their kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from draem.demo.camera import expose, look
from draem.demo.flange import (
    BORE,
    HOLE,
    HOLES,
    MARKS,
    Part,
    hole_centre,
    machine,
    print_marks,
    to_pixels,
)
from draem.demo.scene import Floats

VISIBLE = 5 / 255
PLAIN = 20 / 255
SMALLEST_AREA = 25
_FINE = 4


def add_defect(
    part: Part, kind: str, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Photograph a part with one defect, and say where it shows.

    Args:
        part: A good part.
        kind: One of `DEFECTS`.
        rng: All randomness comes from here.

    Returns:
        The image, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8, 255 where the defect changes
        the picture by more than `VISIBLE` and 0 elsewhere. A defect that hardly shows is drawn
        again.
    """
    clean = look(part)
    while True:
        defective = look(DEFECTS[kind](part, rng))
        change = np.abs(defective - clean).max(axis=2)  # (H, W)
        mask = _visible(change, part.unit)
        plain = np.count_nonzero(change > PLAIN) >= SMALLEST_AREA * part.unit**2
        if plain and change[mask > 0].mean() >= 2 * VISIBLE:
            return expose(part, defective), mask


def scratch(part: Part, rng: np.random.Generator) -> Part:
    """One to three thin lines side by side: bared bright metal between dark lips."""
    unit = part.unit
    centre = np.array(_spot(part, rng, margin=4))
    along = np.linspace(-0.5, 0.5, 60)
    heading = rng.uniform(0, 2 * math.pi) + rng.uniform(-1.1, 1.1) * along
    heading += rng.normal(0, 0.12) * np.sin(along * rng.uniform(5, 12))
    step = rng.uniform(32, 95) * unit / len(along)
    path = np.stack([np.cos(heading), np.sin(heading)], axis=1).cumsum(axis=0) * step  # (60, 2)
    path += centre - path[len(path) // 2]
    beside = np.array([-math.sin(heading[30]), math.cos(heading[30])]) * unit

    canvas = np.zeros((part.size * _FINE, part.size * _FINE), np.uint8)
    for strand in range(int(rng.integers(1, 4))):
        first, last = sorted(rng.uniform(0, 60, 2).astype(int)) if strand else (0, 60)
        if last - first > 8:
            shifted = path[first:last] + beside * strand * rng.uniform(3.5, 5.5)
            _draw_stroke(canvas, shifted, rng.uniform(1.8, 3.6) * unit, rng)
    core = cv2.resize(canvas, (part.size, part.size), interpolation=cv2.INTER_AREA)
    depth = core.astype(np.float32) / np.float32(255)
    halo = cv2.GaussianBlur(depth, (0, 0), 1.1 * unit)
    lips = np.clip(1.3 * halo - depth, 0, 1)
    strength = np.float32(rng.uniform(0.65, 1.15))
    colour = 1 + strength * (0.9 * depth - 2.0 * lips)
    ploughed = strength * unit * (0.7 * depth - 0.5 * lips)
    return replace(
        part,
        height=(part.height - ploughed).astype(np.float32),
        ink=part.ink * (1 - depth),
        paint=(part.paint * np.clip(colour, 0.3, 1.9)[:, :, None]).astype(np.float32),
    )


def _draw_stroke(
    canvas: npt.NDArray[np.uint8],
    path: npt.NDArray[np.float64],
    width: float,
    rng: np.random.Generator,
) -> None:
    """Draw a line, in pixels of the image, on a canvas `_FINE` times as fine.

    Its width and depth taper at the ends and vary along the way, as the pressure did.
    """
    count = len(path)
    taper = np.sin(np.linspace(0.12, math.pi - 0.05, count)) ** 0.6
    pressure = np.clip(taper * (1 + 0.3 * _wander(rng, count)), 0.15, 1.4)
    fraction_bits = 4
    ends = np.round((path + 0.5) * _FINE * 2**fraction_bits).astype(int)
    for index in range(count - 1):
        level = int(np.clip(170 * pressure[index] + 40, 0, 255))
        thickness = max(1, round(width * pressure[index] * _FINE))
        start, end = ends[index].tolist(), ends[index + 1].tolist()
        cv2.line(canvas, start, end, (level,), thickness, cv2.LINE_AA, shift=fraction_bits)


def dent(part: Part, rng: np.random.Generator) -> Part:
    """A smooth oval depression with a slightly raised rim, seen by its light and shadow alone."""
    unit = part.unit
    reach = rng.uniform(9, 20) * unit
    x, y = _spot(part, rng, margin=0.45 * reach / unit)
    right, down = _offsets(part, x, y)
    turn, flat = rng.uniform(0, math.pi), rng.uniform(0.65, 1.0)
    major = right * math.cos(turn) + down * math.sin(turn)
    minor = (down * math.cos(turn) - right * math.sin(turn)) / flat
    square = (major**2 + minor**2) / reach**2
    bowl = np.clip(1 - square, 0, 1) ** 2
    rim = np.exp(-((np.sqrt(square) - 1.0) ** 2) / 0.03)
    depth = np.float32(rng.uniform(0.42, 0.75) * reach)
    return replace(
        part,
        height=(part.height - depth * bowl + 0.06 * depth * rim).astype(np.float32),
        grain=(part.grain * (1 - 0.7 * bowl)).astype(np.float32),
    )


def stain(part: Part, rng: np.random.Generator) -> Part:
    """A dried drop: translucent, coloured, darker towards its smooth closed rim."""
    unit = part.unit
    x, y = _spot(part, rng, margin=5)
    colour = np.array(
        [(0.72, 0.55, 0.32), (0.50, 0.52, 0.55), (0.78, 0.50, 0.38), (0.55, 0.62, 0.80)]
    )[rng.integers(4)]
    strength = rng.uniform(0.45, 0.95)
    cover = np.zeros((part.size, part.size), np.float32)
    for drop in range(1 + int(rng.integers(0, 3))):
        main = drop == 0
        radius = (rng.uniform(8, 20) if main else rng.uniform(1.5, 3.5)) * unit
        away = 0.0 if main else rng.uniform(16, 26) * unit
        side = rng.uniform(0, 2 * math.pi)
        centre = (x + away * math.cos(side), y + away * math.sin(side))
        depth = _contour(part, centre, rng, radius, roughness=0.15, waves=4)
        inside = np.clip(0.5 + depth / unit, 0, 1)
        rim = np.exp(-((depth / unit - 1.8) ** 2) / 3)
        cover = np.maximum(cover, inside * (0.55 + 0.45 * rim))
    dark = 1 - strength * cover[:, :, None] * (1 - colour)
    return replace(part, paint=(part.paint * dark).astype(np.float32))


def chip(part: Part, rng: np.random.Generator) -> Part:
    """Material broken out of the rim or of a hole's edge, with a rough bright fracture."""
    unit = part.unit
    x, y = _edge(part, rng)
    radius = rng.uniform(6.5, 13) * unit
    depth = _contour(part, (x, y), rng, radius, roughness=0.13, waves=7)
    noise = rng.standard_normal(depth.shape, np.float32) * np.float32(4 * unit)
    facets = cv2.GaussianBlur(noise, (0, 0), 1.2 * unit)
    depth += np.float32(0.9 * unit) * facets
    flank = rng.uniform(1.5, 3.5) * unit
    fracture = np.clip(1 + depth / flank, 0, 1)
    shine = 1 + fracture * (0.25 * facets - 0.1)
    return replace(
        part,
        outside=np.maximum(part.outside, depth).astype(np.float32),
        height=(part.height - fracture * (0.8 * flank - 0.35 * unit * facets)).astype(np.float32),
        grain=part.grain * (1 - fracture),
        ink=part.ink * (1 - fracture),
        paint=part.paint * np.clip(shine, 0.4, 1.5)[:, :, None],
    )


def missing_feature(part: Part, rng: np.random.Generator) -> Part:
    """A bolt hole that was not drilled, or one of the two laser marks left out."""
    left_out = int(rng.integers(HOLES + len(MARKS)))
    if left_out < HOLES:
        holes = tuple(hole for hole in range(HOLES) if hole != left_out)
        outside, height = machine(part.pose, part.size, holes)
        return replace(part, outside=outside, height=height)
    marks = tuple(mark for mark in MARKS if mark != MARKS[left_out - HOLES])
    return replace(part, ink=print_marks(part.pose, part.size, marks))


DEFECTS: dict[str, Callable[[Part, np.random.Generator], Part]] = {
    "chip": chip,
    "dent": dent,
    "missing_feature": missing_feature,
    "scratch": scratch,
    "stain": stain,
}


def _visible(change: Floats, unit: float) -> npt.NDArray[np.uint8]:
    """255 where a picture changes visibly, with the pin holes inside closed, 0 elsewhere."""
    visible = (change > VISIBLE).astype(np.uint8) * 255
    side = 2 * max(1, round(2.5 * unit)) + 1
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(visible, cv2.MORPH_CLOSE, brush)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        if cv2.contourArea(outline) < 120 * unit**2:
            cv2.drawContours(closed, [outline], -1, (255,), cv2.FILLED)
    return np.asarray(closed, np.uint8)


def _spot(part: Part, rng: np.random.Generator, margin: float) -> tuple[float, float]:
    """A point on the face at least `margin` (256-pixel units) away from any edge."""
    while True:
        angle, radius = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0.3**2, 0.94**2))
        x, y = to_pixels(part.pose, radius * math.cos(angle), radius * math.sin(angle))
        if part.outside[round(y), round(x)] < -margin * part.unit:
            return x, y


def _edge(part: Part, rng: np.random.Generator) -> tuple[float, float]:
    """A point on the outer rim, on a bolt hole's edge or on the bore's."""
    angle = rng.uniform(0, 2 * math.pi)
    where = rng.uniform()
    centre, radius = (0.0, 0.0), 1.0
    if where > 0.85:
        radius = BORE
    elif where > 0.55:
        centre, radius = hole_centre(int(rng.integers(HOLES))), HOLE
    x = centre[0] + radius * math.cos(angle)
    y = centre[1] + radius * math.sin(angle)
    return to_pixels(part.pose, x, y)


def _offsets(part: Part, x: float, y: float) -> tuple[Floats, Floats]:
    """Pixels to the right of and below a point, (1, W) and (H, 1)."""
    axis = np.arange(part.size, dtype=np.float32)
    return axis[None, :] - np.float32(x), axis[:, None] - np.float32(y)


def _contour(
    part: Part,
    centre: tuple[float, float],
    rng: np.random.Generator,
    radius: float,
    roughness: float,
    waves: int,
) -> Floats:
    """How deep a pixel is inside a closed random contour, in pixels, negative outside, (H, W)."""
    right, down = _offsets(part, *centre)
    turn = np.arctan2(down, right)
    border = radius * (1 + roughness * _waves(turn, rng, waves))
    return np.asarray(border - np.sqrt(right**2 + down**2), np.float32)


def _waves(turn: Floats, rng: np.random.Generator, count: int) -> Floats:
    """A random Fourier series around a circle, of unit variance; high orders are weak."""
    orders = np.arange(2, count + 2)
    strengths = (0.5 + rng.random(count)) / orders
    strengths *= math.sqrt(2 / np.sum(strengths**2))
    phases = rng.uniform(0, 2 * math.pi, count)
    total = np.zeros_like(turn)
    for order, strength, phase in zip(orders, strengths, phases, strict=True):
        total += np.float32(strength) * np.cos(np.float32(order) * turn + np.float32(phase))
    return total


def _wander(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """A slowly changing random series of about unit variance."""
    knots = rng.standard_normal(max(3, count // 8))
    return np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots)
