"""The good part of the procedural product: a turned steel flange on a conveyor, as plain fields.

Everything a photograph of the part depends on is drawn here once and kept in one frozen `Part`;
`camera` turns a `Part` into an image and `defects` changes some of its fields.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from draem.demo.scene import Floats, Scene, set_scene

HOLES = 6
MARKS = ("text", "code")

# Lengths of the drawing, in radii of the flange.
BORE = 0.24
HUB = 0.47
GROOVE = 0.56
HOLE = 0.105
HOLE_CIRCLE = 0.76
KEYWAY_DEPTH = 0.32
KEYWAY_WIDTH = 0.045


@dataclass(frozen=True)
class Pose:
    """Where the part is in the image: centre and radius in pixels, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Part:
    """One part and its surroundings, ready to be photographed; all fields are (H, W) unless said.

    Attributes:
        pose: Where the part is.
        outside: Signed distance to the material in pixels, negative inside.
        height: Height of the surface in pixels.
        grain: Turning marks left by the tool, zero on average, about [-1, 1].
        ink: How much of a pixel the laser marks cover, [0, 1].
        paint: Factors on the surface's colour, (H, W, 3); ones on a clean part.
        scene: Light, camera and background.
    """

    pose: Pose
    outside: Floats
    height: Floats
    grain: Floats
    ink: Floats
    paint: Floats
    scene: Scene

    @property
    def size(self) -> int:
        """Width and height of the image in pixels."""
        return int(self.outside.shape[0])

    @property
    def unit(self) -> float:
        """Pixels of this image a pixel of a 256-pixel image."""
        return self.size / 256


def render_part(rng: np.random.Generator, size: int = 256) -> Part:
    """Draw a good part at a random pose, with its own turning marks, light and noise.

    Args:
        rng: All randomness comes from here.
        size: Width and height of the image in pixels.
    """
    pose = Pose(
        x=size * (0.5 + rng.uniform(-0.008, 0.008)),
        y=size * (0.5 + rng.uniform(-0.008, 0.008)),
        radius=size * 0.42 * rng.uniform(0.992, 1.008),
        angle=math.radians(rng.uniform(-2.0, 2.0)),
    )
    scene = set_scene(rng, size)
    outside, height = machine(pose, size)
    return Part(
        pose=pose,
        outside=outside,
        height=height,
        grain=_turning_marks(rng, pose, size),
        ink=print_marks(pose, size),
        paint=np.ones((size, size, 3), np.float32),
        scene=scene,
    )


def part_coordinates(pose: Pose, size: int) -> tuple[Floats, Floats]:
    """Every pixel's position on the part's drawing, x and y in radii, each (H, W)."""
    axis = np.arange(size, dtype=np.float32)
    dx = (axis[None, :] - np.float32(pose.x)) / np.float32(pose.radius)
    dy = (axis[:, None] - np.float32(pose.y)) / np.float32(pose.radius)
    cos, sin = np.float32(math.cos(pose.angle)), np.float32(math.sin(pose.angle))
    return cos * dx + sin * dy, cos * dy - sin * dx


def hole_centre(hole: int) -> tuple[float, float]:
    """Centre of a bolt hole on the drawing, in radii."""
    angle = 2 * math.pi * hole / HOLES
    return HOLE_CIRCLE * math.cos(angle), HOLE_CIRCLE * math.sin(angle)


def to_pixels(pose: Pose, x: float, y: float) -> tuple[float, float]:
    """Where a point of the drawing appears in the image, as (x, y) in pixels."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    return (
        pose.x + pose.radius * (cos * x - sin * y),
        pose.y + pose.radius * (sin * x + cos * y),
    )


def machine(
    pose: Pose, size: int, holes: tuple[int, ...] = tuple(range(HOLES))
) -> tuple[Floats, Floats]:
    """Turn the flange and drill its holes.

    Args:
        pose: Where the part is.
        size: Width and height of the image in pixels.
        holes: Which of the bolt holes are drilled.

    Returns:
        Signed distance to the material (negative inside) and height, in pixels, each (H, W).
    """
    x, y = part_coordinates(pose, size)
    radius = np.hypot(x, y)
    bore = radius - BORE
    keyway = np.maximum(np.abs(x) - KEYWAY_WIDTH, np.abs(y + KEYWAY_DEPTH / 2) - KEYWAY_DEPTH / 2)
    opening = np.minimum(bore, keyway)
    height = _profile(radius) - _chamfer(opening, 0.03)
    for hole in holes:
        centre_x, centre_y = hole_centre(hole)
        distance = np.hypot(x - np.float32(centre_x), y - np.float32(centre_y)) - HOLE
        height -= _chamfer(distance, 0.038)
        opening = np.minimum(opening, distance)
    outside = np.maximum(radius - 1, -opening)
    scale = np.float32(pose.radius)
    return (outside * scale).astype(np.float32), (height * scale).astype(np.float32)


def print_marks(pose: Pose, size: int, marks: tuple[str, ...] = MARKS) -> Floats:
    """Laser-mark the part's type and its square code.

    Args:
        pose: Where the part is.
        size: Width and height of the image in pixels.
        marks: Which of `MARKS` are there.

    Returns:
        How much of each pixel is marked, (H, W), [0, 1].
    """
    ink = np.zeros((size, size), np.float32)
    for mark in marks:
        stencil = _stencil(mark, size)
        scale = pose.radius * 2 / stencil.shape[0]
        cos, sin = scale * math.cos(pose.angle), scale * math.sin(pose.angle)
        half = stencil.shape[0] / 2
        move = np.array(
            [
                [cos, -sin, pose.x - cos * half + sin * half],
                [sin, cos, pose.y - sin * half - cos * half],
            ]
        )
        ink += cv2.warpAffine(stencil, move, (size, size), flags=cv2.INTER_LINEAR)
    return ink


def _profile(radius: Floats) -> Floats:
    """Height over the flange's face along a radius: raised hub, sealing groove, outer chamfer."""
    hub = 0.05 * np.clip((HUB + 0.025 - radius) / 0.05, 0, 1)
    groove = 0.016 * np.clip(1 - ((radius - GROOVE) / 0.022) ** 2, 0, 1)
    rim = 0.75 * np.clip(radius - 0.95, 0, 0.05)
    return np.asarray(hub - groove - rim, np.float32)


def _chamfer(distance: Floats, width: float) -> Floats:
    """Depth of a bevel that starts `width` away from an opening's edge."""
    return np.asarray(0.75 * np.clip(width - distance, 0, width), np.float32)


def _turning_marks(rng: np.random.Generator, pose: Pose, size: int) -> Floats:
    """Concentric tool marks: fine lines that run far along the circle, and broader bands."""
    steps = max(32, round(pose.radius * 1.08))
    rings = _polar_noise(rng, steps, 10, 0.6) + 0.7 * _polar_noise(rng, steps, 28, 0.6)
    bands = _polar_noise(rng, max(8, steps // 9), 5, 0.0)
    wide = cv2.resize(bands, (steps, bands.shape[0]), interpolation=cv2.INTER_CUBIC)
    polar = rings + 0.5 * wide  # (angles, radii)
    turned = cv2.warpPolar(
        np.ascontiguousarray(polar, np.float32),
        (size, size),
        (pose.x, pose.y),
        steps,
        cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS | cv2.INTER_LINEAR,
    )
    return np.asarray(0.5 * turned, np.float32)


def _polar_noise(rng: np.random.Generator, steps: int, knots: int, smooth: float) -> Floats:
    """Noise over (angle, radius), periodic in the angle, with `knots` values around the circle."""
    angles = 256
    values = rng.standard_normal((knots, steps)).astype(np.float32)
    around = np.arange(angles) * knots / angles
    before = around.astype(int)
    weight = (0.5 - 0.5 * np.cos((around - before) * math.pi))[:, None].astype(np.float32)
    noise = (1 - weight) * values[before] + weight * values[(before + 1) % knots]  # (256, steps)
    if smooth > 0:
        noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=smooth, sigmaY=0.01)
    return np.asarray(noise, np.float32)


@functools.cache
def _stencil(mark: str, size: int) -> Floats:
    """One mark on a square drawing of the whole part, (N, N), [0, 1]."""
    side = max(512, 2 * size)
    stencil = np.zeros((side, side), np.uint8)
    if mark == "text":
        _stencil_text(stencil)
    else:
        _stencil_code(stencil)
    smooth = cv2.GaussianBlur(stencil, (0, 0), side / 700)
    return np.asarray(smooth, np.float32) / np.float32(255)


def _stencil_text(stencil: npt.NDArray[np.uint8]) -> None:
    side = stencil.shape[0]
    thickness = max(1, round(side / 190))
    for line, text in enumerate(("DF-84", "6xM10")):
        scale = side / 512 * (0.86 if line == 0 else 0.6)
        (width, rise), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
        middle = side * (0.5 + HOLE_CIRCLE / 2 + (-0.024 if line == 0 else 0.032))
        origin = (round(side / 2 - width / 2), round(middle + rise / 2))
        cv2.putText(
            stencil,
            text,
            origin,
            cv2.FONT_HERSHEY_DUPLEX,
            scale,
            (255,),
            thickness if line == 0 else max(1, thickness * 2 // 3),
            cv2.LINE_AA,
        )


def _stencil_code(stencil: npt.NDArray[np.uint8]) -> None:
    """A square of 10 x 10 cells with the solid left and bottom borders of a Data Matrix."""
    side, cells = stencil.shape[0], 10
    pattern = np.random.default_rng(84).integers(0, 2, (cells, cells))
    pattern[:, 0] = pattern[-1, :] = 1
    pattern[0, :] = np.arange(cells) % 2 == 0
    pattern[:, -1] = np.arange(cells) % 2 == 1
    cell = max(1, round(side * 0.0085))
    block = np.kron(pattern, np.ones((cell, cell), int)).astype(np.uint8) * 255
    top = round(side * (0.5 - HOLE_CIRCLE / 2)) - block.shape[0] // 2
    left = side // 2 - block.shape[1] // 2
    stencil[top : top + block.shape[0], left : left + block.shape[1]] = block
