"""The profiles `paper` and `upstream`: augmented textures under Perlin masks, over whole images.

Source:
    Zavrtanik et al., ICCV 2021, section 3.3:
    I_a = (1 - M) * I + (1 - opacity) * (M * I) + opacity * (M * A).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from draem.config import ResolvedSimulationConfig
from draem.errors import InputError
from draem.simulation import lut, sampling
from draem.simulation.augment import (
    OPERATIONS,
    AugmentationPlan,
    augment_but_last_lut,
    sample_plan,
)
from draem.simulation.batch_indexing import in_parts, pick, put, rows_of, rows_where, take
from draem.simulation.device_images import DeviceImages
from draem.simulation.enhance import color
from draem.simulation.geometry import rotated_parts
from draem.simulation.grayscale import is_grayscale
from draem.simulation.perlin import perlin_field, uniform_angles
from draem.simulation.rectangles import rectangles
from draem.simulation.simulator import SimulatedBatch, empty_batch

_RECTANGLES = 3


@dataclass(frozen=True, slots=True)
class _Parameters:
    """All randomness of one batch, a row per sample, on the CPU."""

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


@dataclass(eq=False)
class PaperSimulator:
    """Makes training batches of whole images; see `Simulator` for the attributes.

    Raises:
        InputError: The normal images and the textures differ in size.
    """

    normal_images: DeviceImages
    textures: DeviceImages
    profile: ResolvedSimulationConfig
    seed: int = 0
    region_of_interest: Tensor | None = None

    def __post_init__(self) -> None:
        self._size = self.normal_images.shape[2], self.normal_images.shape[3]
        if self._size != self.textures.shape[2:]:
            raise InputError(
                "normal images and textures differ in size",
                expected=f"textures of {self._size} (height, width)",
                found=f"{tuple(self.textures.shape[2:])}",
            )
        self.operations = OPERATIONS[self.profile.operations]
        self._grey = self.profile.grey_sources and is_grayscale(self.normal_images)

    def batch(self, step: int, size: int, *, rank: int = 0, world: int = 1) -> SimulatedBatch:
        """One batch; see `Simulator.batch`."""
        parameters = take(self._sample_parameters(step, size), slice(rank, None, world))
        batch = empty_batch(parameters.opacity, self._size, self.normal_images.device)
        # Cheaper by a tenth; what is written into is not marked by it, so that gradients may pass.
        with torch.inference_mode():
            self._fill(batch, parameters)
        return batch

    def inside(self, step: int, size: int) -> Tensor | None:
        """The region of interest in a batch, rotated with its images; see `Simulator.inside`."""
        return self._inside(self._sample_parameters(step, size))

    def _fill(self, batch: SimulatedBatch, parameters: _Parameters) -> None:
        """Write the samples; the mask is 0 before."""
        normal, simulated, mask, opacity = batch
        images = self.normal_images.take(parameters.images)
        self._rotate(images, parameters.rotation, normal)
        if (clean := rows_where(parameters.clean)) is not None:
            put(simulated, clean, pick(normal, clean))
        rows = (~parameters.clean).nonzero()[:, 0].tolist()
        if not rows:
            return
        chosen = take(parameters, rows_of(rows))
        textures = self.textures.take(chosen.textures)
        sources, luts = augment_but_last_lut(textures, self.operations, chosen.plan)
        masks = self._masks(chosen)
        for part in in_parts(len(rows), mask[0].numel(), normal.device):
            at = rows_of(rows[part])
            weight = pick(opacity, at)[:, None, None, None] * masks[part]
            source = self._finished(sources[part], luts[part])
            put(simulated, at, torch.lerp(pick(normal, at), source, weight))
            put(mask, at, masks[part])

    def _finished(self, sources: Tensor, luts: Tensor) -> Tensor:
        """Sources after their last tables, without colour if so asked, in [0, 1]."""
        if not self._grey:
            return lut.gather(sources, luts / 255)
        colorless = torch.zeros(len(sources), device=sources.device)
        return color(lut.apply(sources, luts), colorless) / 255

    def _inside(self, parameters: _Parameters) -> Tensor | None:
        if self.region_of_interest is None:
            return None
        region = (self.region_of_interest * 255).to(torch.uint8)
        region = region.repeat(len(parameters.images), 1, 1, 1)  # (batch, 1, height, width)
        seen = torch.empty(region.shape, device=region.device)
        self._rotate(region, parameters.rotation, seen)
        return seen > 127 / 255

    def _rotate(self, images: Tensor, degrees: Tensor, out: Tensor) -> None:
        """Write uint8 images, each rotated by its angle, into `out` as float32 in [0, 1]."""
        if (upright := rows_where(degrees == 0)) is not None:
            put(out, upright, pick(images, upright).float().div_(255))
        rows = degrees.nonzero()[:, 0].tolist()
        if rows:
            at = rows_of(rows)
            turned = rotated_parts(
                pick(images, at), degrees[at].to(images.device), self.profile.rotation_fill
            )
            for part, levels in turned:
                put(out, rows_of(rows[part]), levels.round_().div_(255))

    def _masks(self, parameters: _Parameters) -> Tensor:
        """(batch, 1, height, width), 0 or 1, inside the region of interest."""
        device = self.normal_images.device
        if self.profile.mask_shape == "rectangle":
            masks = rectangles(self._size, parameters.rectangles.to(device)).float()
        else:
            noise = perlin_field(
                self._size,
                parameters.cells,
                parameters.noise_degrees,
                parameters.angles.to(device),
                zero_outside=self.profile.noise_zero_outside,
            )
            masks = noise.gt_(parameters.threshold.to(device)[:, None, None])
        masks, inside = masks[:, None], self._inside(parameters)
        return masks if inside is None else masks.mul_(inside)

    def _sample_parameters(self, step: int, size: int) -> _Parameters:
        profile = self.profile
        generator = sampling.seeded_generator(self.seed, step)
        uniform = partial(sampling.uniform, size, generator)
        finest = int(math.log2(profile.finest_cells))
        rotated = uniform(0, 1) < profile.rotation_share
        return _Parameters(
            images=sampling.image_order(
                len(self.normal_images),
                self.seed,
                step,
                size,
                with_replacement=profile.with_replacement,
            ),
            textures=torch.randint(len(self.textures), (size,), generator=generator),
            rotation=uniform(-profile.rotation_degrees, profile.rotation_degrees) * rotated,
            cells=2.0 ** torch.randint(finest + 1, (size, 2), generator=generator),
            noise_degrees=uniform(-profile.noise_degrees, profile.noise_degrees),
            angles=uniform_angles(size, profile.finest_cells, generator),
            threshold=uniform(*profile.threshold),
            opacity=uniform(*profile.opacity),
            clean=uniform(0, 1) < profile.clean_share,
            plan=sample_plan(self.operations, size, profile.operation_count, generator),
            # Last, so that the other parameters are what they would be without rectangles.
            rectangles=torch.rand(size, _RECTANGLES, 5, generator=generator),
        )
