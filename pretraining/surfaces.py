"""Random surfaces: what the products of this pretraining are made of.

Nothing here shows any real product: formulas, and crops of the photographs in scikit-image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.simulation import procedural as draw
from draem.simulation.canvas import Canvas
from draem.simulation.textures import builtin_photographs

Floats = NDArray[np.float32]

PHOTOGRAPH_SHARE = 0.25
GREY_SHARE = 0.5


class Studio:
    """Draws random surfaces of one size.

    Args:
        side: Height and width in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        axis = np.arange(side, dtype=np.float32) / np.float32(side)
        self.x, self.y = np.meshgrid(axis, axis)
        self._photographs = [picture.astype(np.float32) / 255 for picture in builtin_photographs()]

    def canvas(self, rng: np.random.Generator) -> Canvas:
        """Something to draw on."""
        return Canvas(self.x, self.y, rng)

    def surface(self, rng: np.random.Generator, *, grey: bool) -> Floats:
        """A material that covers the whole picture.

        Args:
            rng: Decides everything random.
            grey: Without colour.

        Returns:
            (side, side, 3) float32, about [0, 1].
        """
        plain = np.broadcast_to(random_color(rng, grey=grey), (self.side, self.side, 3))
        if rng.random() < PHOTOGRAPH_SHARE:
            share = np.float32(rng.uniform(0.3, 1))
            return np.asarray(plain * (1 - share) + self._photograph(rng, grey=grey) * share)
        surface = np.array(plain, np.float32)
        for _ in range(rng.integers(1, 4)):
            field = _centred(random_pattern(rng)(self.canvas(rng)))[:, :, None]
            strength = np.float32(_spread(rng, 0.02, 0.5))
            if rng.random() < 0.6:
                surface += field * strength
            else:
                contrast = random_color(rng, grey=grey) - random_color(rng, grey=grey)
                surface += field * contrast * strength * np.float32(1.5)
        return surface

    def lit(self, rng: np.random.Generator, picture: Floats) -> Floats:
        """The picture under uneven light, from one side perhaps."""
        if rng.random() < 0.6:
            unevenness = _centred(self.canvas(rng).fractal(float(rng.uniform(2.5, 4)), high=4))
            strength = np.float32(rng.uniform(0.05, 0.45))
            picture = picture * (1 + strength * unevenness)[:, :, None]
        if rng.random() < 0.4:
            strength, turn = np.float32(rng.uniform(0.1, 0.7)), rng.uniform(0, 2 * math.pi)
            along = (self.x - 0.5) * np.float32(math.cos(turn))
            along = along + (self.y - 0.5) * np.float32(math.sin(turn))
            picture = picture * (1 + strength * along)[:, :, None]
        return picture

    def _photograph(self, rng: np.random.Generator, *, grey: bool) -> Floats:
        whole = self._photographs[rng.integers(len(self._photographs))]
        height, width = whole.shape[:2]
        side = int(min(height, width) * rng.uniform(0.2, 1))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        flag = cv2.INTER_AREA if side > self.side else cv2.INTER_LINEAR
        crop = whole[top : top + side, left : left + side]
        crop = cv2.resize(crop, (self.side, self.side), interpolation=flag)
        return np.repeat(crop.mean(2, keepdims=True), 3, 2) if grey else np.asarray(crop)


def random_color(rng: np.random.Generator, *, grey: bool) -> Floats:
    """A colour, seldom a saturated one, (3,)."""
    if grey:
        return np.repeat(np.float32(rng.uniform(0.08, 0.92)), 3)
    color = rng.uniform(0.05, 0.95, 3)
    middle = color.mean()
    return np.asarray(middle + (color - middle) * rng.uniform(0.1, 1.2), np.float32)


def random_pattern(rng: np.random.Generator) -> draw.Pattern:
    """One of the patterns that anomaly sources are drawn with, its parameters at random."""
    degrees = rng.uniform(0, 180) if rng.random() < 0.6 else float(rng.choice([0, 90]))

    def uniform(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def spread(low: float, high: float) -> float:
        return _spread(rng, low, high)

    def count(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    def a_band() -> draw.Pattern:
        low = spread(4, 40)
        return draw.band(low, low * uniform(1.2, 2.5), float(rng.choice([0, 0, 3])))

    def some_cells() -> draw.Pattern:
        show = str(rng.choice(["distance", "mosaic", "joints"]))
        return draw.cells(int(spread(30, 2500)), show, float(rng.choice([1, 1, 2, 4])))

    def some_blobs() -> draw.Pattern:
        hollow = bool(rng.random() < 0.3)
        return draw.blobs(int(spread(40, 400)), uniform(0.02, 0.1), hollow)

    def some_rings() -> draw.Pattern:
        x, y = uniform(-0.5, 1.5), uniform(-0.5, 1.5)
        return draw.rings(spread(5, 24), x, y, uniform(1, 4), uniform(0.01, 0.06))

    makers: tuple[Callable[[], draw.Pattern], ...] = (
        lambda: draw.grating(degrees, spread(3, 50), float(rng.choice([0, 3, 6]))),
        lambda: draw.stripes(degrees, spread(5, 60)),
        lambda: draw.checker(degrees, spread(4, 25)),
        lambda: draw.weave(degrees, spread(6, 40), count(1, 4)),
        lambda: draw.herringbone(spread(4, 14)),
        lambda: draw.bricks(spread(4, 26), uniform(1, 3)),
        some_cells,
        lambda: draw.dots(spread(6, 40), uniform(0.15, 0.4)),
        some_blobs,
        lambda: draw.fibres(int(spread(100, 900)), uniform(0.1, 0.7), spread(0.003, 0.012)),
        some_rings,
        lambda: draw.marble(degrees, spread(1, 6), uniform(0.1, 0.6)),
        a_band,
        lambda: draw.clouds(uniform(1, 3.5)),
        lambda: draw.grain(spread(0.001, 0.03)),
        # Grain, brushed and rolled surfaces are what most products are made of.
        lambda: draw.grain(spread(0.002, 0.012)),
        lambda: draw.grain(0.0),
        lambda: draw.brushed(spread(0.05, 0.4), spread(0.001, 0.008), degrees),
        lambda: draw.brushed(spread(0.05, 0.4), spread(0.001, 0.008), 90.0),
        lambda: draw.scales(spread(6, 26)),
    )
    return makers[rng.integers(len(makers))]()


def _spread(rng: np.random.Generator, low: float, high: float) -> float:
    """Evenly over orders of magnitude."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _centred(field: Floats) -> Floats:
    """A field brought to about [-0.5, 0.5]."""
    low, high = np.percentile(field, (2, 98))
    spread = max(float(high - low), 1e-6)
    return np.asarray(np.clip((field - low) / spread, -0.3, 1.3) - 0.5, np.float32)
