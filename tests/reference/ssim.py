"""SSIM written from its definition: one pixel and one window at a time, in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RADIUS = 5
SIGMA = 1.5


def slow_ssim(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """SSIM at each pixel of two planes of data range 1, with zeros beyond the border."""
    squares = np.add.outer(np.arange(-RADIUS, RADIUS + 1) ** 2, np.arange(-RADIUS, RADIUS + 1) ** 2)
    weights = np.exp(-squares / (2 * SIGMA**2))
    weights /= weights.sum()
    padded = [np.pad(plane.astype(np.float64), RADIUS) for plane in (first, second)]
    result = np.empty(first.shape)
    for row in range(first.shape[0]):
        for column in range(first.shape[1]):
            window = np.s_[row : row + 2 * RADIUS + 1, column : column + 2 * RADIUS + 1]
            x, y = padded[0][window], padded[1][window]
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            variance_x = (weights * (x - mean_x) ** 2).sum()
            variance_y = (weights * (y - mean_y) ** 2).sum()
            covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
            luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
            structure = (2 * covariance + 9e-4) / (variance_x + variance_y + 9e-4)
            result[row, column] = luminance * structure
    return result
