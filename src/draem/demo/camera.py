"""Photographs of rendered parts: light, shadow, lens and sensor."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from draem.demo.flange import Part, part_coordinates
from draem.demo.scene import Floats


def photograph(part: Part) -> npt.NDArray[np.uint8]:
    """Take the picture of a part, (H, W, 3) uint8 RGB."""
    return expose(part, look(part))


def expose(part: Part, light: Floats) -> npt.NDArray[np.uint8]:
    """Add the part's sensor noise and round to grey levels.

    Args:
        part: Whose noise is added.
        light: What `look` returns, (H, W, 3), [0, 1].
    """
    levels = np.clip((light + part.scene.noise) * 255 + 0.5, 0, 255)
    return np.asarray(levels, np.uint8)


def look(part: Part) -> Floats:
    """What the lens shows before the sensor adds its noise, (H, W, 3), [0, 1]."""
    cover = np.clip(0.5 - part.outside, 0, 1)[:, :, None]
    picture = cover * _surface(part) + (1 - cover) * _background(part)
    picture *= _illumination(part)[:, :, None]
    picture = cv2.GaussianBlur(picture, (0, 0), part.scene.blur)
    return np.asarray(np.clip(picture, 0, 1), np.float32)


def slopes(height: Floats) -> tuple[Floats, Floats]:
    """How much a surface rises per pixel to the right and downwards, each (H, W)."""
    right = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return np.asarray(right, np.float32), np.asarray(down, np.float32)


def cast_shadow(background: Floats, cover: Floats, softness: float, strength: float) -> Floats:
    """A background under a part's soft shadow.

    Args:
        background: (H, W, 3).
        cover: (H, W) how much of each pixel the shadow would cover if it were sharp, [0, 1].
        softness: Standard deviation of its edge in pixels.
        strength: How much of the light it takes, [0, 1].
    """
    shadow = cv2.GaussianBlur(cover, (0, 0), softness)
    return np.asarray(background * (1 - np.float32(strength) * shadow[:, :, None]), np.float32)


def _surface(part: Part) -> Floats:
    """The lit metal, as if it covered the whole image, (H, W, 3)."""
    scene = part.scene
    slope_x, slope_y = slopes(part.height)
    steepness = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)

    plane = math.cos(scene.elevation)
    light_x = plane * math.cos(scene.azimuth)
    light_y = plane * math.sin(scene.azimuth)
    light_z = math.sin(scene.elevation)
    facing = -slope_x * np.float32(light_x) - slope_y * np.float32(light_y)
    diffuse = np.maximum((facing + np.float32(light_z)) * steepness, 0)

    gloss = _turned_gloss(part) * np.exp(np.clip(2.2 * facing, -3, 0.5)) * steepness
    gloss *= 1 + np.float32(0.13) * part.grain
    cavity = part.height - cv2.GaussianBlur(part.height, (0, 0), 3 * part.unit)
    ambient = 0.16 * np.clip(1 + 0.22 * cavity / part.unit, 0.3, 1.3)
    matt = ambient + 0.40 * diffuse * (1 + np.float32(0.04) * part.grain)
    shade = matt + 0.36 * gloss
    shade *= 1 - 0.72 * part.ink
    return np.asarray(shade[:, :, None] * scene.tint * part.paint, np.float32)


def _turned_gloss(part: Part) -> Floats:
    """Highlights of a turned face: a bow tie across the circle for each of two lamps.

    Source: Kajiya and Kay's model of a thread's highlight, the threads being the tool marks.
    """
    x, y = part_coordinates(part.pose, part.size)
    square = x * x + y * y + np.float32(1e-4)
    total = np.zeros_like(square)
    for turn, strength in ((0.0, 1.0), (1.25, 0.5)):
        azimuth = part.scene.azimuth + turn - part.pose.angle
        across = np.float32(math.cos(azimuth)) * y - np.float32(math.sin(azimuth)) * x
        total += np.float32(strength) * np.exp(-4.0 * across * across / square)
    return total


def _background(part: Part) -> Floats:
    """The conveyor under the part's soft shadow, (H, W, 3)."""
    cover = np.clip(0.5 - part.outside, 0, 1)
    reach = 5.0 * part.unit
    right, down = -reach * math.cos(part.scene.azimuth), -reach * math.sin(part.scene.azimuth)
    moved = cv2.warpAffine(cover, np.array([[1, 0, right], [0, 1, down]]), (part.size, part.size))
    return cast_shadow(part.scene.conveyor, np.asarray(moved), 2.6 * part.unit, 0.62)


def _illumination(part: Part) -> Floats:
    """Brightness over the image: exposure and a slow change from side to side, (H, W)."""
    axis = np.linspace(-1, 1, part.size, dtype=np.float32)
    right, down = part.scene.falloff
    return np.asarray(
        part.scene.exposure * (1 + right * axis[None, :] + down * axis[:, None]), np.float32
    )
