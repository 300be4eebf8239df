"""Light, camera and conveyor of one photograph of the procedural product."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """What one photograph has besides the part.

    Attributes:
        azimuth: Direction towards the light in the image plane, radians.
        elevation: Height of the light over the image plane, radians.
        exposure: Factor on all intensities.
        falloff: Relative change of brightness from the centre to the right and bottom edges, (2,).
        tint: Colour of the metal, (3,) RGB factors.
        blur: Standard deviation of the lens blur, pixels.
        conveyor: The background without the part, (H, W, 3), [0, 1].
        noise: Sensor noise, (H, W, 3), in intensities.
    """

    azimuth: float
    elevation: float
    exposure: float
    falloff: Floats
    tint: Floats
    blur: float
    conveyor: Floats
    noise: Floats


def set_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draw the light, the lens, the sensor and the belt of one photograph.

    Args:
        rng: All randomness comes from here.
        size: Width and height of the image in pixels.
    """
    unit = size / 256
    warmth = rng.normal(0, 0.008)
    return Scene(
        azimuth=math.radians(-128 + rng.uniform(-9, 9)),
        elevation=math.radians(rng.uniform(50, 58)),
        exposure=float(rng.uniform(0.93, 1.07)),
        falloff=rng.uniform(-0.08, 0.08, 2).astype(np.float32),
        tint=np.array([0.985 + warmth, 1.0, 1.025 - warmth], np.float32),
        blur=float(rng.uniform(0.45, 0.75) * unit),
        conveyor=_conveyor(rng, size),
        noise=rng.standard_normal((size, size, 3), np.float32) * np.float32(0.0075),
    )


def _conveyor(rng: np.random.Generator, size: int) -> Floats:
    """A dark woven belt with a little wear."""
    unit = size / 256
    axis = np.arange(size, dtype=np.float32) / np.float32(unit)
    phase = rng.uniform(0, 2 * math.pi, 2)
    warp = np.sin(axis * np.float32(1.35) + np.float32(phase[0]))
    weft = np.sin(axis * np.float32(1.35) + np.float32(phase[1]))
    weave = warp[None, :] * weft[:, None]
    wear = cv2.resize(
        rng.standard_normal((9, 9)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    dust = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), 0.7 * unit)
    light = 1 + 0.10 * weave + 0.05 * wear + 0.16 * dust * unit
    colour = np.array([0.125, 0.145, 0.165], np.float32)
    return np.asarray(light[:, :, None] * colour, np.float32)
