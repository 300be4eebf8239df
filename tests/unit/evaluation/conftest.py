from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from draem.evaluation.histograms import PixelHistograms

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


@pytest.fixture
def counted() -> Callable[[list[Plane], list[Mask | None]], PixelHistograms]:
    """Histograms of a list of maps and masks."""

    def count(maps: list[Plane], masks: list[Mask | None]) -> PixelHistograms:
        histograms = PixelHistograms.empty()
        for plane, mask in zip(maps, masks, strict=True):
            histograms.update(plane, mask)
        return histograms

    return count


@pytest.fixture
def blobs() -> Callable[[np.random.Generator, int, int], Mask]:
    """A square mask with the given number of discs and one lone pixel."""

    def draw(rng: np.random.Generator, size: int, discs: int) -> Mask:
        plane = np.zeros((size, size), np.uint8)
        for _ in range(discs):
            x, y = (int(v) for v in rng.integers(0, size, 2))
            cv2.circle(plane, (x, y), int(rng.integers(1, max(2, size // 10))), 1, -1)
        plane[0, 0] = 1
        return plane.astype(bool)

    return draw


@pytest.fixture
def softmax_map() -> Callable[[np.random.Generator, Mask], Plane]:
    """A map like a trained network's: the logistic of wide normals, higher inside the mask."""

    def draw(rng: np.random.Generator, mask: Mask) -> Plane:
        logits = rng.normal(np.where(mask, 3.0, -14.0), 6.0)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)

    return draw
