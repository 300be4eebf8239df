"""Training batches with simulated anomalies, made where the training runs.

Source:
    Zavrtanik et al., ICCV 2021, section 3.3:
    I_a = (1 - M) * I + (1 - opacity) * (M * I) + opacity * (M * A).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from draem.errors import InputError
from draem.simulation.augment import (
    PAPER_OPERATIONS,
    UPSTREAM_OPERATIONS,
    AugmentationPlan,
    Operation,
    augment,
    draw_plan,
)
from draem.simulation.colors import color
from draem.simulation.draws import take
from draem.simulation.geometry import rotate
from draem.simulation.interest import checked_interest
from draem.simulation.perlin import perlin_field
from draem.simulation.pictures import Pictures, chunks, on_device
from draem.simulation.profile import SimulationProfile

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


_GREY_SPREAD = 1.0
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
        normal_images: (images, 3, height, width) uint8 RGB; as `Pictures` where they lie elsewhere
            than batches are made.
        textures: (textures, 3, height, width) uint8 RGB, of the same height and width.
        profile: What the anomalies look like.
        seed: Decides everything random.
        region_of_interest: (height, width) bool, True where anomalies may lie; everywhere where
            left out.

    Raises:
        InputError: There are no images or textures, or their shapes do not match.
    """

    same_size = True
    """Whether textures must have the size of the normal images."""

    def __init__(
        self,
        normal_images: Tensor | Pictures,
        textures: Tensor,
        profile: SimulationProfile,
        seed: int = 0,
        region_of_interest: Tensor | None = None,
    ) -> None:
        for name, pictures in (("normal images", normal_images), ("textures", textures)):
            if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
                raise InputError(
                    f"the {name} cannot be simulated on",
                    expected="a uint8 tensor (count, 3, height, width)",
                    found=f"{pictures.dtype} {tuple(pictures.shape)}",
                )
        if not len(normal_images) or not len(textures):
            raise InputError("simulation needs at least one normal image and one texture")
        if self.same_size and normal_images.shape[2:] != textures.shape[2:]:
            raise InputError(
                "normal images and textures differ in size",
                expected=f"textures of {tuple(normal_images.shape[2:])} (height, width)",
                found=f"{tuple(textures.shape[2:])}",
            )
        self.normal_images = normal_images
        self.textures = textures
        self.profile = profile
        self.seed = seed
        self.region_of_interest = checked_interest(region_of_interest, normal_images)
        self._prepare()

    def _prepare(self) -> None:
        """Learn from the normal images what the profile needs to know of them."""
        self._grey = self.profile.grey_sources and is_grey(self.normal_images)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The augmentations that the profile draws from."""
        return _OPERATIONS[self.profile.operations]

    def to(self, device: torch.device | str) -> Simulator:
        """The same simulator with its pictures on another device."""
        if self.normal_images.device == torch.device(device):
            return self
        place = torch.device(device)
        pictures = on_device(self.normal_images, place), self.textures.to(place)
        return type(self)(*pictures, self.profile, self.seed, self.region_of_interest)

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
        rows = torch.arange(rank, size, world)
        draws = take(self._draw(step, size), rows)
        device = self.normal_images.device
        normal = self._turned(self.normal_images[draws.images.to(device)], draws).float() / 255

        sources = self.textures[draws.textures.to(device)]
        sources = augment(sources, self.operations, draws.plan)
        if self._grey:
            sources = color(sources, sources.new_zeros(len(sources), dtype=torch.float32))
        sources = sources.float() / 255
        mask, inside = self._masks(draws), self._inside(draws)
        if inside is not None:
            mask = mask * inside
        weight = draws.opacity.to(device)[:, None, None, None] * mask
        return SimulatedBatch(
            normal_images=normal,
            simulated_images=torch.lerp(normal, sources, weight),
            anomaly_mask=mask,
            opacity=draws.opacity.to(device),
        )

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
        return self._turned(region, draws) > 127

    def _turned(self, pictures: Tensor, draws: _Draws) -> Tensor:
        """The pictures, one a sample, with those rotated in place whose turn was drawn."""
        places = draws.rotation.nonzero()[:, 0]
        if len(places):
            degrees = draws.rotation[places].to(pictures.device)
            places = places.to(pictures.device)
            pictures[places] = rotate(pictures[places], degrees, self.profile.rotation_fill)
        return pictures

    def _masks(self, draws: _Draws) -> Tensor:
        device = self.normal_images.device
        height, width = self.normal_images.shape[2:]
        if self.profile.mask_shape == "rectangle":
            marked = rectangles((height, width), draws.rectangles.to(device))
        else:
            noise = perlin_field(
                (height, width),
                draws.cells.to(device),
                draws.noise_degrees.to(device),
                draws.angles.to(device),
                zero_outside=self.profile.noise_zero_outside,
            )
            marked = noise > draws.threshold.to(device)[:, None, None]
        marked &= ~draws.clean.to(device)[:, None, None]
        return marked[:, None].float()  # (batch, 1, height, width)

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


def rectangles(size: tuple[int, int], draws: Tensor) -> Tensor:
    """Masks of one to three rectangles with sides of a fiftieth to four tenths of the picture's.

    Args:
        size: Height and width in pixels.
        draws: (batch, 3, 5) in [0, 1): for each rectangle its height, width, top and left, and
            whether it is there; the first always is.

    Returns:
        (batch, height, width) bool.
    """
    marked = torch.zeros(len(draws), *size, dtype=torch.bool, device=draws.device)
    for number, drawn in enumerate(draws.unbind(1)):
        inside = torch.ones_like(marked)
        for axis, side in enumerate(size):
            length = (side * (0.02 + 0.38 * drawn[:, axis])).ceil()
            first = (drawn[:, 2 + axis] * (side - length + 1)).floor()
            places = torch.arange(side, device=draws.device)
            along = (places >= first[:, None]) & (places < (first + length)[:, None])
            inside &= along[:, :, None] if axis == 0 else along[:, None, :]
        there = drawn[:, 4] < (1.0 if number == 0 else 0.5)
        marked |= inside & there[:, None, None]
    return marked


def is_grey(images: Tensor | Pictures) -> bool:
    """Whether pictures hold no colour worth the name.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        True where the channels differ by less than one of 255 levels on average.
    """
    return _color_spread(images).mean().item() < _GREY_SPREAD


def are_grey(images: Tensor | Pictures) -> Tensor:
    """Which of the pictures hold no colour worth the name.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        (images,) bool on the CPU.
    """
    return _color_spread(images) < _GREY_SPREAD


def _color_spread(images: Tensor | Pictures) -> Tensor:
    """How far apart the channels are in each picture, in levels, (images,) on the CPU."""
    # One tensor from the start: small ones, kept between large ones that come and go, would keep
    # the allocator from giving the large ones' room to the next, and memory would grow.
    spreads = torch.empty(len(images))
    for start, part in chunks(images):
        red, green, blue = part.unbind(1)
        spread = torch.maximum(torch.maximum(red, green), blue)
        spread = spread - torch.minimum(torch.minimum(red, green), blue)
        # A sum of whole numbers is the same in whatever order the pixels lie.
        total = spread.sum((1, 2), dtype=torch.int64)
        spreads[start : start + len(part)] = total / spread[0].numel()
    return spreads


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
