"""Named sets of simulation settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProfileName = Literal["paper", "upstream"]


@dataclass(frozen=True, slots=True)
class SimulationProfile:
    """Everything that decides what simulated anomalies look like.

    Attributes:
        name: `paper` or `upstream`, the profile that the other values started from.
        rotation_degrees: Normal images are rotated by a uniform angle up to this, either way.
        rotation_share: Share of the normal images that are rotated.
        rotation_fill: What the rotation brings in at the corners: `black` or `mirror`.
        opacity: Range of the weight of the anomaly source.
        threshold: Range of the level at which Perlin noise becomes a mask.
        finest_cells: Perlin lattice cells along a side are a power of two up to this many.
        noise_degrees: The noise is rotated by a uniform angle up to this, either way.
        noise_zero_outside: The rotated noise is 0 beyond the picture, as in the published code.
        operations: Which augmentations: `paper` (seven) or `upstream` (ten).
        operation_count: Different augmentations a texture.
        clean_share: Share of the samples that stay normal.
        grey_sources: Anomaly sources are made grey where the normal images are grey, so that
            colour alone does not give the anomalies away; not published.
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
    operations: ProfileName
    operation_count: int
    clean_share: float
    grey_sources: bool = False


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

PROFILES: dict[ProfileName, SimulationProfile] = {"paper": PAPER, "upstream": UPSTREAM}
