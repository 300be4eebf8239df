"""The simulator that a profile asks for."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from draem.config import ResolvedSimulationConfig
from draem.datasets.image_source import ImageSource
from draem.errors import InputError
from draem.simulation.device_images import place_images
from draem.simulation.foreground import checked_roi
from draem.simulation.paper import PaperSimulator
from draem.simulation.simulator import Simulator
from draem.simulation.varied import VariedSimulator


def make_simulator(
    normal_images: ImageSource,
    textures: ImageSource,
    profile: ResolvedSimulationConfig,
    seed: int = 0,
    region_of_interest: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Simulator:
    """Make the simulator of a profile.

    Args:
        normal_images: At least one.
        textures: At least one; of the size that `texture_size` gives.
        profile: What the anomalies look like.
        seed: Decides everything random.
        region_of_interest: (height, width) bool, True where anomalies may be; everywhere if
            omitted.
        device: Where batches are made.

    Raises:
        InputError: There are no images or textures, they do not match, or the region of interest
            cannot be used.
    """
    if not len(normal_images) or not len(textures):
        raise InputError("simulation needs at least one normal image and one texture")
    images, sources = (
        place_images(source, torch.device(device)) for source in (normal_images, textures)
    )
    kind = _kind(profile)
    return kind(images, sources, profile, seed, checked_roi(region_of_interest, images))


def over_images(simulator: Simulator, normal_images: ImageSource) -> Simulator:
    """The same simulator over other images; the textures are shared, not moved again.

    Args:
        simulator: From `make_simulator`.
        normal_images: At least one, of the same size.
    """
    return _kind(simulator.profile)(
        place_images(normal_images, simulator.normal_images.device),
        simulator.textures,
        simulator.profile,
        simulator.seed,
        simulator.region_of_interest,
    )


def with_textures(simulator: Simulator, textures: ImageSource) -> Simulator:
    """The same simulator with other anomaly sources.

    Args:
        simulator: From `make_simulator`.
        textures: At least one; of the size that `texture_size` gives.
    """
    other = copy.copy(simulator)  # what it learned from the images stays valid
    other.textures = place_images(textures, simulator.normal_images.device)
    return other


def texture_size(profile: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a profile needs textures in: square if it crops windows from them."""
    return (min(image_size), min(image_size)) if profile == "varied" else image_size


def without_clean_samples(simulator: Simulator, seed: int) -> Simulator:
    """The same simulator with another seed, and an anomaly in every sample."""
    other = copy.copy(simulator)  # what it learned from the images stays valid
    other.profile = simulator.profile.replace(clean_share=0.0)
    other.seed = seed
    return other


def _kind(profile: ResolvedSimulationConfig) -> type[PaperSimulator | VariedSimulator]:
    return VariedSimulator if profile.profile == "varied" else PaperSimulator
