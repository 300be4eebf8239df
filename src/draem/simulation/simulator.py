"""Training batches with simulated anomalies, made where the training runs.

Source:
    Zavrtanik et al., ICCV 2021, section 3.3:
    I_a = (1 - M) * I + (1 - opacity) * (M * I) + opacity * (M * A).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from draem.config import ResolvedSimulationConfig
from draem.datasets.image_source import ImageSource
from draem.errors import InputError
from draem.simulation import lut
from draem.simulation.augment import (
    PAPER_OPERATIONS,
    UPSTREAM_OPERATIONS,
    AugmentationPlan,
    Operation,
    all_but_look_up,
    draw_plan,
)
from draem.simulation.batch_indexing import in_parts, on_device, pick, put, rows_of, take
from draem.simulation.device_images import place_images
from draem.simulation.enhance import color
from draem.simulation.foreground import checked_roi
from draem.simulation.geometry import rotated_parts
from draem.simulation.grayscale import is_grayscale
from draem.simulation.perlin import perlin_field
from draem.simulation.rectangles import rectangles

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


_RECTANGLES = 3


@dataclass(frozen=True, slots=True)
class _Draws:
    """All randomness of one batch, drawn on the CPU."""

    images: Tensor
    textures: Tensor
    rotation: Tensor
    cells: Tensor
    noise_degrees: Tensor
    angles: Tensor
    threshold: Tensor
    opacity: Tensor
    clean: Tensor
    plan: AugmentationPlan
    rectangles: Tensor


class Simulator:
    """Makes training batches from normal images and anomaly sources.

    A batch depends on the seed and the step alone: the same two give the same batch on every
    device, in a resumed run as in one that never stopped. With several processes each takes its
    rows of that one batch.

    Args:
        normal_images: At least one.
        textures: At least one; of the same height and width.
        profile: What the anomalies look like.
        seed: Decides everything random.
        region_of_interest: (height, width) bool, True where anomalies may lie; everywhere where
            omitted.
        device: Where batches are made.

    Raises:
        InputError: There are no images or textures, or their shapes do not match.
    """

    same_size = True
    """Whether textures must have the size of the normal images."""

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
        if self.same_size and normal_images.shape[2:] != textures.shape[2:]:
            raise InputError(
                "normal images and textures differ in size",
                expected=f"textures of {tuple(normal_images.shape[2:])} (height, width)",
                found=f"{tuple(textures.shape[2:])}",
            )
        self._given = normal_images, textures
        self.normal_images = place_images(normal_images, torch.device(device))
        self.textures = place_images(textures, torch.device(device))
        self.profile = profile
        self.seed = seed
        self.region_of_interest = checked_roi(region_of_interest, self.normal_images)
        self._prepare()

    def _prepare(self) -> None:
        """Learn from the normal images what the profile needs to know of them."""
        self._grey = self.profile.grey_sources and is_grayscale(self.normal_images)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The augmentations that the profile draws from."""
        return _OPERATIONS[self.profile.operations]

    def to(self, device: torch.device | str) -> Simulator:
        """The same simulator with its pictures on another device."""
        if self.normal_images.device == torch.device(device):
            return self
        return type(self)(*self._given, self.profile, self.seed, self.region_of_interest, device)

    def batch(self, step: int, size: int, *, rank: int = 0, world: int = 1) -> SimulatedBatch:
        """One batch.

        Args:
            step: Which batch of the run, from 0.
            size: Samples over all processes.
            rank: Which process this is; it gets samples rank, rank + world and so on.
            world: Number of processes.

        Returns:
            The batch, on the device of the normal images.
        """
        draws = take(self._draw(step, size), slice(rank, None, world))
        batch = self._empty(draws)
        # Cheaper by a tenth; what is written into is not marked by it, so that gradients may pass.
        with torch.inference_mode():
            self._fill(batch, draws)
        return batch

    def _empty(self, draws: _Draws) -> SimulatedBatch:
        opacity = draws.opacity.to(self.normal_images.device)
        normal = opacity.new_empty(len(opacity), *self.normal_images.shape[1:])
        return SimulatedBatch(
            normal, torch.empty_like(normal), torch.zeros_like(normal[:, :1]), opacity
        )

    def _fill(self, batch: SimulatedBatch, draws: _Draws) -> None:
        """Write the samples; the mask is 0 before."""
        normal, simulated, mask, opacity = batch
        self._turn(self.normal_images.take(draws.images), draws, normal)
        clean = draws.clean.nonzero()[:, 0].tolist()
        if clean:
            place = on_device(rows_of(clean, len(normal)), normal.device)
            put(simulated, place, pick(normal, place))
        anomalous = (~draws.clean).nonzero()[:, 0].tolist()
        if not anomalous:
            return
        drawn = take(draws, rows_of(anomalous, len(normal)))
        sources, marked = self._sources(drawn), self._masks(drawn)
        for part in in_parts(len(anomalous), mask[0].numel(), normal.device):
            place = on_device(rows_of(anomalous[part], len(normal)), normal.device)
            weight = pick(opacity, place)[:, None, None, None] * marked[part]
            put(simulated, place, torch.lerp(pick(normal, place), sources(part), weight))
            put(mask, place, marked[part])

    def inside(self, step: int, size: int) -> Tensor | None:
        """Where the region of interest lies in the samples of a batch.

        Args:
            step: Which batch of the run, from 0.
            size: Samples in it.

        Returns:
            (size, 1, height, width) bool, as `batch` turns and cuts the images; None where there
            is no region of interest.
        """
        return self._inside(self._draw(step, size))

    def _inside(self, draws: _Draws) -> Tensor | None:
        if self.region_of_interest is None:
            return None
        region = (self.region_of_interest * 255).to(torch.uint8)
        region = region.repeat(len(draws.images), 1, 1, 1)  # (batch, 1, height, width)
        seen = torch.empty(region.shape, device=region.device)
        self._turn(region, draws, seen)
        return seen > 127 / 255

    def _turn(self, pictures: Tensor, draws: _Draws, seen: Tensor) -> None:
        """Write the pictures, one a sample, in [0, 1], rotated where a turn was drawn."""
        device, count = pictures.device, len(pictures)
        turned = draws.rotation.nonzero()[:, 0].tolist()
        if len(turned) < count:
            rows = on_device(rows_of((draws.rotation == 0).nonzero()[:, 0].tolist(), count), device)
            put(seen, rows, pick(pictures, rows).float().div_(255))
        if turned:
            chosen = rows_of(turned, count)
            upright = pick(pictures, on_device(chosen, device))
            degrees = draws.rotation[chosen].to(device)
            for part, levels in rotated_parts(upright, degrees, self.profile.rotation_fill):
                rows = on_device(rows_of(turned[part], count), device)
                put(seen, rows, levels.round_().div_(255))

    def _sources(self, draws: _Draws) -> Callable[[slice], Tensor]:
        """Augmented textures, (some of the batch, 3, height, width) in [0, 1]."""
        textures = self.textures.take(draws.textures)
        images, table = all_but_look_up(textures, self.operations, draws.plan)
        if self._grey:
            factor = torch.zeros(len(images), device=images.device)
            return lambda part: color(lut.apply(images[part], table[part]), factor[part]) / 255
        table = table / 255
        return lambda part: lut.look_up(images[part], table[part])

    def _masks(self, draws: _Draws) -> Tensor:
        device = self.normal_images.device
        height, width = self.normal_images.shape[2:]
        if self.profile.mask_shape == "rectangle":
            marked = rectangles((height, width), draws.rectangles.to(device)).float()
        else:
            noise = perlin_field(
                (height, width),
                draws.cells,
                draws.noise_degrees,
                draws.angles.to(device),
                zero_outside=self.profile.noise_zero_outside,
            )
            marked = noise.gt_(draws.threshold.to(device)[:, None, None])
        inside = self._inside(draws)
        marked = marked[:, None]  # (batch, 1, height, width)
        return marked if inside is None else marked.mul_(inside)

    def _draw(self, step: int, size: int) -> _Draws:
        profile = self.profile
        generator = seeded_generator(self.seed, step)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(size, generator=generator)

        finest = int(math.log2(profile.finest_cells))
        rotated = uniform(0, 1) < profile.rotation_share
        return _Draws(
            images=self.image_order(step, size),
            textures=torch.randint(len(self.textures), (size,), generator=generator),
            rotation=uniform(-profile.rotation_degrees, profile.rotation_degrees) * rotated,
            cells=2.0 ** torch.randint(finest + 1, (size, 2), generator=generator),
            noise_degrees=uniform(-profile.noise_degrees, profile.noise_degrees),
            angles=uniform_angles(size, profile.finest_cells, generator),
            threshold=uniform(*profile.threshold),
            opacity=uniform(*profile.opacity),
            clean=uniform(0, 1) < profile.clean_share,
            plan=draw_plan(self.operations, size, profile.operation_count, generator),
            # Drawn last, so that the rest is what it would be without them.
            rectangles=torch.rand(size, _RECTANGLES, 5, generator=generator),
        )

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
