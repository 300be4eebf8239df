"""Training batches with simulated anomalies, made where the training runs.

Source:
    Zavrtanik et al., ICCV 2021, section 3.3:
    I_a = (1 - M) * I + (1 - opacity) * (M * I) + opacity * (M * A).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from draem.config import ResolvedSimulationConfig
from draem.datasets.image_source import ImageSource
from draem.errors import InputError
from draem.simulation.augment import PAPER_OPERATIONS, UPSTREAM_OPERATIONS, Operation
from draem.simulation.device_images import DeviceImages, place_images
from draem.simulation.foreground import checked_roi

_OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "paper": PAPER_OPERATIONS,
    "upstream": UPSTREAM_OPERATIONS,
}


class SimulatedBatch(NamedTuple):
    """One training batch.

    Attributes:
        normal_images: (batch, 3, height, width) RGB in [0, 1], the reconstruction's target.
        simulated_images: The same with anomalies, the network's input.
        anomaly_mask: (batch, 1, height, width), 0 or 1.
        opacity: (batch,) weight of the anomaly source.
    """

    normal_images: Tensor
    simulated_images: Tensor
    anomaly_mask: Tensor
    opacity: Tensor


class Simulator(Protocol):
    """Makes training batches from normal images and anomaly sources.

    A batch depends on the seed and the step alone: the same two give the same batch on every
    device, in a resumed run as in one that never stopped. With several processes each takes its
    rows of that one batch.

    Attributes:
        normal_images: The images that anomalies are simulated on.
        textures: The anomaly sources.
        profile: What the anomalies look like.
        seed: Decides everything random.
        region_of_interest: (height, width) bool, True where anomalies may be; None for everywhere.
    """

    normal_images: DeviceImages
    textures: DeviceImages
    profile: ResolvedSimulationConfig
    seed: int
    region_of_interest: Tensor | None

    def batch(self, step: int, size: int, *, rank: int = 0, world: int = 1) -> SimulatedBatch:
        """One batch, on the device of the normal images.

        Args:
            step: Which batch of the run, from 0.
            size: Samples over all processes.
            rank: Which process this is; it gets samples rank, rank + world and so on.
            world: Number of processes.
        """
        ...

    def inside(self, step: int, size: int) -> Tensor | None:
        """Where the region of interest is in the samples of a batch.

        Args:
            step: Which batch of the run, from 0.
            size: Samples in it.

        Returns:
            (size, 1, height, width) bool; None if there is no region of interest.
        """
        ...


class SimulatorInputs:
    """What the simulators of all profiles start from.

    Args:
        normal_images: At least one.
        textures: At least one.
        profile: What the anomalies look like.
        seed: Decides everything random.
        region_of_interest: (height, width) bool, True where anomalies may be; everywhere if
            omitted.
        device: Where batches are made.

    Raises:
        InputError: There are no images or textures, or the region of interest cannot be used.
    """

    def __init__(
        self,
        normal_images: ImageSource,
        textures: ImageSource,
        profile: ResolvedSimulationConfig,
        seed: int = 0,
        region_of_interest: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not len(normal_images) or not len(textures):
            raise InputError("simulation needs at least one normal image and one texture")
        self._sources = normal_images, textures
        self.normal_images = place_images(normal_images, torch.device(device))
        self.textures = place_images(textures, torch.device(device))
        self.profile = profile
        self.seed = seed
        self.region_of_interest = checked_roi(region_of_interest, self.normal_images)
        self._prepare()

    def _prepare(self) -> None:
        """Learn from the normal images what the profile needs to know of them."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The augmentations that the profile draws from."""
        return _OPERATIONS[self.profile.operations]

    def to(self, device: torch.device | str) -> Self:
        """The same simulator with its images on another device."""
        if self.normal_images.device == torch.device(device):
            return self
        return type(self)(*self._sources, self.profile, self.seed, self.region_of_interest, device)

    def image_order(self, step: int, size: int) -> Tensor:
        """Which normal image each sample of a batch shows, (size,).

        Every image comes once before any comes twice, in a new order each time round.
        """
        count = len(self.normal_images)
        places = range(step * size, (step + 1) * size)
        orders = {
            epoch: torch.randperm(count, generator=seeded_generator(self.seed, -1 - epoch))
            for epoch in range(places[0] // count, places[-1] // count + 1)
        }
        return torch.stack([orders[place // count][place % count] for place in places])


def uniform_angles(batch: int, finest_cells: int, generator: torch.Generator) -> Tensor:
    """Gradient directions for `perlin_field`, enough to rotate a square without repeating them.

    Returns:
        (batch, R, C) radians in [0, 2 pi).
    """
    # Rotated by 45 degrees a square looks sqrt(2) times as far along each axis.
    nodes = math.ceil(finest_cells * math.sqrt(2)) + 2
    return 2 * math.pi * torch.rand(batch, nodes, nodes, generator=generator)


def seeded_generator(*keys: int) -> torch.Generator:
    """A CPU generator whose stream is a function of whole numbers, negative ones included."""
    words = [key % 2**64 for key in keys]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))
