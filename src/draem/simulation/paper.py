"""The profiles `paper` and `upstream`: Perlin masks and augmented textures, as published."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from draem.errors import InputError
from draem.simulation import lut
from draem.simulation.augment import AugmentationPlan, all_but_look_up, draw_plan
from draem.simulation.batch_indexing import in_parts, on_device, pick, put, rows_of, take
from draem.simulation.enhance import color
from draem.simulation.geometry import rotated_parts
from draem.simulation.grayscale import is_grayscale
from draem.simulation.perlin import perlin_field
from draem.simulation.rectangles import rectangles
from draem.simulation.simulator import (
    SimulatedBatch,
    SimulatorInputs,
    seeded_generator,
    uniform_angles,
)

_RECTANGLES = 3


@dataclass(frozen=True, slots=True)
class _Parameters:
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


class PaperSimulator(SimulatorInputs):
    """Simulates anomalies on whole images; arguments as of `SimulatorInputs`.

    Raises:
        InputError: There are no images or textures, or they differ in size.
    """

    def _prepare(self) -> None:
        if self.normal_images.shape[2:] != self.textures.shape[2:]:
            raise InputError(
                "normal images and textures differ in size",
                expected=f"textures of {tuple(self.normal_images.shape[2:])} (height, width)",
                found=f"{tuple(self.textures.shape[2:])}",
            )
        self._grey = self.profile.grey_sources and is_grayscale(self.normal_images)

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
        drawn = take(self._sample(step, size), slice(rank, None, world))
        batch = self._empty(drawn)
        # Cheaper by a tenth; what is written into is not marked by it, so that gradients may pass.
        with torch.inference_mode():
            self._fill(batch, drawn)
        return batch

    def _empty(self, drawn: _Parameters) -> SimulatedBatch:
        opacity = drawn.opacity.to(self.normal_images.device)
        normal = opacity.new_empty(len(opacity), *self.normal_images.shape[1:])
        return SimulatedBatch(
            normal, torch.empty_like(normal), torch.zeros_like(normal[:, :1]), opacity
        )

    def _fill(self, batch: SimulatedBatch, drawn: _Parameters) -> None:
        """Write the samples; the mask is 0 before."""
        normal, simulated, mask, opacity = batch
        self._rotate(self.normal_images.take(drawn.images), drawn, normal)
        clean = drawn.clean.nonzero()[:, 0].tolist()
        if clean:
            place = on_device(rows_of(clean, len(normal)), normal.device)
            put(simulated, place, pick(normal, place))
        anomalous = (~drawn.clean).nonzero()[:, 0].tolist()
        if not anomalous:
            return
        changed = take(drawn, rows_of(anomalous, len(normal)))
        sources, marked = self._augmented_textures(changed), self._masks(changed)
        for part in in_parts(len(anomalous), mask[0].numel(), normal.device):
            place = on_device(rows_of(anomalous[part], len(normal)), normal.device)
            weight = pick(opacity, place)[:, None, None, None] * marked[part]
            put(simulated, place, torch.lerp(pick(normal, place), sources(part), weight))
            put(mask, place, marked[part])

    def inside(self, step: int, size: int) -> Tensor | None:
        """Where the region of interest is in the samples of a batch.

        Args:
            step: Which batch of the run, from 0.
            size: Samples in it.

        Returns:
            (size, 1, height, width) bool, as `batch` turns and cuts the images; None if there
            is no region of interest.
        """
        return self._inside(self._sample(step, size))

    def _inside(self, drawn: _Parameters) -> Tensor | None:
        if self.region_of_interest is None:
            return None
        region = (self.region_of_interest * 255).to(torch.uint8)
        region = region.repeat(len(drawn.images), 1, 1, 1)  # (batch, 1, height, width)
        seen = torch.empty(region.shape, device=region.device)
        self._rotate(region, drawn, seen)
        return seen > 127 / 255

    def _rotate(self, pictures: Tensor, drawn: _Parameters, seen: Tensor) -> None:
        """Write the pictures, one per sample, in [0, 1], rotated where a turn was drawn."""
        device, count = pictures.device, len(pictures)
        turned = drawn.rotation.nonzero()[:, 0].tolist()
        if len(turned) < count:
            rows = on_device(rows_of((drawn.rotation == 0).nonzero()[:, 0].tolist(), count), device)
            put(seen, rows, pick(pictures, rows).float().div_(255))
        if turned:
            chosen = rows_of(turned, count)
            upright = pick(pictures, on_device(chosen, device))
            degrees = drawn.rotation[chosen].to(device)
            for part, levels in rotated_parts(upright, degrees, self.profile.rotation_fill):
                rows = on_device(rows_of(turned[part], count), device)
                put(seen, rows, levels.round_().div_(255))

    def _augmented_textures(self, drawn: _Parameters) -> Callable[[slice], Tensor]:
        """Augmented textures, (some of the batch, 3, height, width) in [0, 1]."""
        textures = self.textures.take(drawn.textures)
        images, table = all_but_look_up(textures, self.operations, drawn.plan)
        if self._grey:
            factor = torch.zeros(len(images), device=images.device)
            return lambda part: color(lut.apply(images[part], table[part]), factor[part]) / 255
        table = table / 255
        return lambda part: lut.look_up(images[part], table[part])

    def _masks(self, drawn: _Parameters) -> Tensor:
        device = self.normal_images.device
        height, width = self.normal_images.shape[2:]
        if self.profile.mask_shape == "rectangle":
            marked = rectangles((height, width), drawn.rectangles.to(device)).float()
        else:
            noise = perlin_field(
                (height, width),
                drawn.cells,
                drawn.noise_degrees,
                drawn.angles.to(device),
                zero_outside=self.profile.noise_zero_outside,
            )
            marked = noise.gt_(drawn.threshold.to(device)[:, None, None])
        inside = self._inside(drawn)
        marked = marked[:, None]  # (batch, 1, height, width)
        return marked if inside is None else marked.mul_(inside)

    def _sample(self, step: int, size: int) -> _Parameters:
        profile = self.profile
        generator = seeded_generator(self.seed, step)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(size, generator=generator)

        finest = int(math.log2(profile.finest_cells))
        rotated = uniform(0, 1) < profile.rotation_share
        return _Parameters(
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
