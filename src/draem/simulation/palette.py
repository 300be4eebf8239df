"""The procedural textures by name: which pattern, in which colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from draem.simulation import procedural as draw
from draem.simulation.canvas import Canvas, Floats

# Colours from dark to bright, as #rrggbb.
RAMPS = {
    "ash": "#0c0c0e #8d8f93 #f7f7f5",
    "steel": "#3c444d #9aa5af #eef3f6",
    "rust": "#1d0f0a #8a3b12 #e39a4a #f7dfb8",
    "oak": "#3b2311 #8f5f33 #d9b27c",
    "moss": "#0d1a0c #4d6b25 #b9c46a",
    "sea": "#041628 #12648a #8fd8d2 #ffffff",
    "plum": "#12041f #6a2377 #e08ac0",
    "bone": "#5a5041 #cfc3a8 #fffbee",
    "ink": "#f6f4ec #565a80 #0a0a20",
    "candy": "#d81e5b #f7d6e0 #3ec1d3",
    "fire": "#050000 #b01703 #ff9a0b #fff6c8",
    "sand": "#7b5a33 #d8b67a #f6e7c4",
    "mint": "#04362f #35a07c #d5ffe8",
    "navy": "#02030f #1e2f7c #7f9cf0",
    "clay": "#3d1410 #a34a35 #e6b09a",
    "hide": "#170b06 #57331d #9c6a42",
    "lime": "#101010 #6fbf1a #f4ff7a",
    "flag": "#b3001b #ffffff #0d3b9e",
    "chalk": "#a9adb0 #dfe2e3 #ffffff",
}

RECIPES: tuple[tuple[str, draw.Pattern], ...] = (
    ("ash", draw.grating(0, 24)),
    ("flag", draw.grating(35, 7, 6.0)),
    ("lime", draw.grating(120, 48)),
    ("candy", draw.stripes(0, 20)),
    ("oak", draw.stripes(80, 55)),
    ("ink", draw.checker(0, 8)),
    ("rust", draw.checker(30, 21)),
    ("navy", draw.weave(0, 20, 1)),
    ("bone", draw.weave(45, 34, 2)),
    ("plum", draw.weave(10, 14, 3)),
    ("moss", draw.herringbone(9)),
    ("clay", draw.bricks(10, 2.6)),
    ("steel", draw.bricks(24, 1.8)),
    ("hide", draw.cells(700, "joints")),
    ("sea", draw.cells(60, "distance")),
    ("flag", draw.cells(90, "mosaic")),
    ("rust", draw.cells(2500, "mosaic")),
    ("chalk", draw.cells(110, "joints")),
    ("mint", draw.cells(260, "distance", 3.0)),
    ("ink", draw.dots(13, 0.3)),
    ("fire", draw.dots(32, 0.24)),
    ("candy", draw.blobs(260, 0.06)),
    ("sea", draw.blobs(140, 0.11, hollow=True)),
    ("sand", draw.fibres(900, 0.25, 0.005)),
    ("ash", draw.fibres(260, 0.7, 0.012)),
    ("oak", draw.rings(16, 0.4, -0.3, 3.0, 0.035)),
    ("hide", draw.rings(11, 0.6, 0.5, 1.2, 0.05)),
    ("chalk", draw.marble(40, 2.2, 0.3)),
    ("plum", draw.marble(100, 4.0, 0.5)),
    ("ash", draw.cracks(5.2, 3, 0.06)),
    ("sand", draw.cracks(4.8, 6, 0.1)),
    ("fire", draw.cracks(3.6, 2, 0.25)),
    ("lime", draw.band(10, 16, 4.0)),
    ("ash", draw.band(22, 30, 5.0)),
    ("moss", draw.band(4, 9)),
    ("sea", draw.clouds(3.4)),
    ("clay", draw.clouds(2.2)),
    ("navy", draw.clouds(1.2)),
    ("ash", draw.grain(0.0)),
    ("rust", draw.grain(0.006)),
    ("mint", draw.grain(0.016)),
    ("candy", draw.grain(0.045)),
    ("steel", draw.brushed(0.12, 0.0015)),
    ("rust", draw.brushed(0.2, 0.004, 60.0)),
    ("plum", draw.scales(11)),
    ("bone", draw.scales(22)),
)


VALIDATION_RECIPES: tuple[tuple[str, draw.Pattern], ...] = (
    ("fire", draw.spiral(9, 6.0)),
    ("steel", draw.spiral(40, 14.0)),
    ("sea", draw.lattice(3, 18)),
    ("clay", draw.lattice(5, 30)),
    ("ash", draw.ripples(3, 22)),
    ("plum", draw.ripples(6, 9)),
    ("moss", draw.contours(3.6, 3.0)),
    ("bone", draw.contours(2.8, 2.0)),
    ("flag", draw.tartan(14)),
    ("hide", draw.tartan(37)),
    ("ink", draw.blocks(26)),
    ("ash", draw.blocks(80)),
    ("navy", draw.arcs(12)),
    ("lime", draw.arcs(28)),
    ("rust", draw.leaves(1200, 0.3)),
    ("ash", draw.leaves(5000, 0.12)),
)
"""Only for validation: none of these patterns is among `RECIPES`."""


def procedural_textures(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Every one of `RECIPES` painted, the same every time.

    Args:
        size: Height and width in pixels.

    Returns:
        Textures, (len(RECIPES), H, W, 3) uint8 RGB.
    """
    return _painted(RECIPES, size, 2021)


def validation_textures(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Textures that training never sees, the same every time.

    Args:
        size: Height and width in pixels.

    Returns:
        Textures, (len(VALIDATION_RECIPES), H, W, 3) uint8 RGB.
    """
    return _painted(VALIDATION_RECIPES, size, 2022)


def _painted(
    recipes: Sequence[tuple[str, draw.Pattern]], size: tuple[int, int], seed: int
) -> npt.NDArray[np.uint8]:
    height, width = size
    side = min(size)
    x, y = np.meshgrid(
        np.arange(width, dtype=np.float32) / np.float32(side),
        np.arange(height, dtype=np.float32) / np.float32(side),
    )
    textures = np.empty((len(recipes), height, width, 3), np.uint8)
    for index, (ramp, pattern) in enumerate(recipes):
        rng = np.random.default_rng([seed, index])
        textures[index] = _paint(pattern(Canvas(x, y, rng)), ramp)
    return textures


def _paint(field: Floats, ramp: str) -> npt.NDArray[np.uint8]:
    """Stretch a field over a whole ramp, but for its most extreme hundredths, (H, W, 3)."""
    low, high = np.percentile(field, (1, 99))
    levels = np.clip((field - low) / max(float(high - low), 1e-6) * 255, 0, 255)
    return np.asarray(_table(ramp)[levels.astype(np.uint8)], np.uint8)


def _table(ramp: str) -> npt.NDArray[np.uint8]:
    """A ramp as 256 colours, (256, 3)."""
    stops = np.array([list(bytes.fromhex(stop[1:])) for stop in RAMPS[ramp].split()], float)
    places = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(places, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
