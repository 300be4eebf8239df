"""What a procedural texture is drawn on: coordinates, and the noises that patterns consist of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """Where a pattern is drawn.

    Attributes:
        x: Position from the left, (H, W), 0 to 1 along the shorter side.
        y: Position from the top, (H, W), in the same unit.
        rng: The pattern's own randomness.
    """

    x: Floats
    y: Floats
    rng: np.random.Generator

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return int(min(self.x.shape))

    def turned(self, degrees: float) -> tuple[Floats, Floats]:
        """The coordinates along axes turned by an angle."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cos * self.x + sin * self.y, cos * self.y - sin * self.x

    def white(self) -> Floats:
        """Independent normal noise, (H, W)."""
        return self.rng.standard_normal(self.x.shape, np.float32)

    def blurred(self, along: float, across: float) -> Floats:
        """Normal noise smoothed by two lengths (shares of the side), scaled to unit variance."""
        sigmas = (max(along * self.side, 0.01), max(across * self.side, 0.01))
        noise = cv2.GaussianBlur(self.white(), (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1])
        return np.asarray(noise / (noise.std() + np.float32(1e-6)), np.float32)

    def fractal(self, power: float = 1.8, low: float = 1.0, high: float = 1e9) -> Floats:
        """Noise whose spectrum falls as 1/frequency^(power/2) between two frequencies, (H, W)."""
        rows, columns = self.x.shape
        down = np.fft.fftfreq(rows, 1 / rows)[:, None] * (self.side / rows)
        right = np.fft.rfftfreq(columns, 1 / columns)[None, :] * (self.side / columns)
        frequency = np.sqrt(down**2 + right**2)
        frequency[0, 0] = 1.0
        band = np.exp(-((low / frequency) ** 6)) * np.exp(-((frequency / high) ** 6))
        spectrum = np.fft.rfft2(self.white()) * band * frequency ** (-power / 2)
        field = np.fft.irfft2(spectrum, s=(rows, columns))
        return np.asarray(field / (field.std() + 1e-9), np.float32)
