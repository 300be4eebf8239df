"""Named sets of simulation settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProfileName = Literal["paper", "upstream", "varied"]


@dataclass(frozen=True, slots=True)
class SimulationProfile:
    """Everything that decides what simulated anomalies look like.

    Attributes:
        name: `paper`, `upstream` or `varied`, the profile that the other values started from.
        rotation_degrees: Normal images are rotated by a uniform angle up to this, either way.
        rotation_share: Share of the normal images that are rotated.
        rotation_fill: What the rotation brings in at the corners: `black` or `mirror`.
        opacity: Range of the weight of the anomaly source.
        threshold: Range of the level at which Perlin noise becomes a mask.
        finest_cells: Perlin lattice cells along a side are a power of two up to this many.
        noise_degrees: The noise is rotated by a uniform angle up to this, either way.
        noise_zero_outside: The rotated noise is 0 beyond the picture, as in the published code.
        mask_shape: `perlin`, or `rectangle`: one to three of random size, as in an ablation of the
            paper; not for `varied`.
        operations: Which augmentations: `paper` (seven) or `upstream` (ten).
        operation_count: Different augmentations a texture.
        clean_share: Share of the samples that stay normal.
        grey_sources: Anomaly sources are made grey where the normal images are grey, so that
            colour alone does not give the anomalies away; not published.
        crop: Side of the windows that are cut from the images, in pixels; None for whole images.
            This and all that follows concerns `varied` alone.
        flips: Half of the windows are mirrored.
        coarse_share: Share of the windows that show twice as much at half the resolution.
        zoom: Half of the windows are enlarged or shrunk by up to this factor.
        shapes: How often each shape comes: fields of Perlin noise, blobs, lines.
        fills: How often each fill comes: a foreign texture, another good part, the same part some
            pixels away, another tone, a smear.
        layers: Anomalies a sample at most; each after the first is left out half of the time.
        on_part: Most anomalies lie on the part, where it can be told from a plain background.
    """

    name: ProfileName
    rotation_degrees: float
    rotation_share: float
    rotation_fill: Literal["black", "mirror"]
    opacity: tuple[float, float]
    threshold: tuple[float, float]
    finest_cells: int
    noise_degrees: float
    noise_zero_outside: bool
    operations: Literal["paper", "upstream"]
    operation_count: int
    clean_share: float
    grey_sources: bool = False
    mask_shape: Literal["perlin", "rectangle"] = "perlin"
    crop: int | None = None
    flips: bool = False
    coarse_share: float = 0.0
    zoom: float = 1.0
    shapes: tuple[float, float, float] = (1.0, 0.0, 0.0)
    fills: tuple[float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 0.0)
    layers: int = 1
    on_part: bool = False


PAPER = SimulationProfile(
    name="paper",
    rotation_degrees=45,
    rotation_share=1,
    # The paper says neither what fills the corners nor how the threshold and the clean share are
    # drawn: mirroring adds no edge that the product lacks; the range spans large to tiny masks.
    rotation_fill="mirror",
    opacity=(0.1, 1),
    threshold=(0.2, 0.7),
    finest_cells=32,
    noise_degrees=90,
    noise_zero_outside=False,
    operations="paper",
    operation_count=3,
    clean_share=0,
)

UPSTREAM = SimulationProfile(
    name="upstream",
    rotation_degrees=90,
    rotation_share=0.3,
    rotation_fill="black",
    opacity=(0.2, 1),
    threshold=(0.5, 0.5),
    finest_cells=32,
    noise_degrees=90,
    noise_zero_outside=True,
    operations="upstream",
    operation_count=3,
    clean_share=0.5,
)

VARIED = SimulationProfile(
    name="varied",
    rotation_degrees=180,
    rotation_share=0,
    rotation_fill="mirror",
    opacity=(0.15, 1),
    threshold=(0.2, 0.6),
    finest_cells=16,
    noise_degrees=180,
    noise_zero_outside=False,
    operations="upstream",
    operation_count=3,
    clean_share=0.25,
    grey_sources=True,
    crop=128,
    coarse_share=0.5,
    shapes=(0.3, 0.35, 0.35),
    fills=(0.35, 0.1, 0.15, 0.3, 0.1),
    layers=2,
    on_part=True,
)

PROFILES: dict[ProfileName, SimulationProfile] = {
    "paper": PAPER,
    "upstream": UPSTREAM,
    "varied": VARIED,
}
