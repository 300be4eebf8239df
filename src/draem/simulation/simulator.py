"""What all simulators have in common: the batch that they make and how they are asked for it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from draem.config import ResolvedSimulationConfig
from draem.simulation.device_images import DeviceImages


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
        normal_images: At least one RGB image; batches are made on their device.
        textures: At least one anomaly source.
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
        """One batch.

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


def empty_batch(opacity: Tensor, size: tuple[int, int], device: torch.device) -> SimulatedBatch:
    """Room for a batch with these opacities; the mask is 0, the images hold anything."""
    opacity = opacity.to(device)
    images = opacity.new_empty(len(opacity), 3, *size)
    return SimulatedBatch(
        images, torch.empty_like(images), torch.zeros_like(images[:, :1]), opacity
    )
