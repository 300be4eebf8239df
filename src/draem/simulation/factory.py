"""The simulator of a profile."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from draem.config import ResolvedSimulationConfig
from draem.datasets.image_source import ImageSource
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
    """The simulator of a profile; arguments as of `SimulatorInputs`."""
    kind: type[PaperSimulator | VariedSimulator] = (
        VariedSimulator if profile.profile == "varied" else PaperSimulator
    )
    return kind(normal_images, textures, profile, seed, region_of_interest, device)


def texture_size(profile: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a profile needs textures in: square if windows are cut from them."""
    return (min(image_size), min(image_size)) if profile == "varied" else image_size


def without_clean_samples(simulator: Simulator, seed: int) -> Simulator:
    """The same simulator with another seed, and an anomaly in every sample."""
    other = copy.copy(simulator)
    other.profile = simulator.profile.replace(clean_share=0.0)
    other.seed = seed
    return other
