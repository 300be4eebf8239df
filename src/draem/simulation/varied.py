"""The profile `varied`: anomalies of many shapes and fills, over windows into the images.

Windows make every step cheaper than whole images and put most anomalies where the part is.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from draem.config import ResolvedSimulationConfig
from draem.simulation import sampling
from draem.simulation.augment import OPERATIONS
from draem.simulation.batch_indexing import pick, put, rows_where, take
from draem.simulation.device_images import DeviceImages, resident
from draem.simulation.fills import Fills, fill, is_filled_with, sample_fills
from draem.simulation.filters import box_blur, dilate
from draem.simulation.foreground import COARSE, find_foreground, place_weights, within_roi
from draem.simulation.grayscale import are_grayscale
from draem.simulation.shapes import Shapes, sample_shapes, shape_weights
from draem.simulation.simulator import SimulatedBatch, empty_batch
from draem.simulation.windows import Windows, crop_windows, locate

_VISIBLE = 0.02
"""Changes below this share of the full range, averaged over 3x3 pixels, are not anomalies."""
_STANDS_OUT = 0.08
"""Moved pixels count only if the mean over 7x7 pixels changes by more of the full range."""
_INSIDE = 0.4
"""A pixel that belongs to a shape by this share or more is marked."""
_ON_PART_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class _Layer:
    """The parameters of one anomaly per sample."""

    shapes: Shapes
    fills: Fills
    opacity: Tensor
    present: Tensor
    on_part: Tensor


@dataclass(frozen=True, slots=True)
class _Parameters:
    """All randomness of one batch, a row per sample, on the CPU."""

    windows: Windows
    layers: tuple[_Layer, ...]


@dataclass(eq=False)
class VariedSimulator:
    """Makes training batches of windows with anomalies; see `Simulator` for the attributes.

    Textures may have any size.
    """

    normal_images: DeviceImages
    textures: DeviceImages
    profile: ResolvedSimulationConfig
    seed: int = 0
    region_of_interest: Tensor | None = None

    def __post_init__(self) -> None:
        images, profile = self.normal_images, self.profile
        count, _, height, width = images.shape
        crop = profile.crop or max(height, width)
        self.size = min(crop, height), min(crop, width)
        self.operations = OPERATIONS[profile.operations]
        part = find_foreground(images) if profile.on_part else None
        self.foreground = within_roi(part, self.region_of_interest, images)
        self._grey = are_grayscale(images) if profile.grey_sources else torch.zeros(count).bool()
        self._places = place_weights(self.foreground, images).flatten(1)

    def batch(self, step: int, size: int, *, rank: int = 0, world: int = 1) -> SimulatedBatch:
        """One batch of windows; see `Simulator.batch`."""
        parameters = take(self._sample_parameters(step, size), slice(rank, None, world))
        batch = empty_batch(parameters.layers[0].opacity, self.size, self.normal_images.device)
        with torch.inference_mode():  # as in `PaperSimulator`
            self._fill(batch, parameters)
        return batch

    def inside(self, step: int, size: int) -> Tensor | None:
        """The region of interest in the windows of a batch; see `Simulator.inside`."""
        return self._inside(self._sample_parameters(step, size).windows)

    def _fill(self, batch: SimulatedBatch, parameters: _Parameters) -> None:
        """Write the samples; the mask is 0 before."""
        normal, simulated, mask, _ = batch
        windows = parameters.windows
        normal.copy_(crop_windows(self.normal_images, windows, self.size))
        simulated.copy_(normal)
        shaped = torch.zeros_like(mask)
        part, inside = self._part(windows), self._inside(windows)
        grey = self._grey[windows.pictures]
        for layer in parameters.layers:
            if (rows := rows_where(layer.present)) is None:
                continue
            chosen = take(layer, rows)
            weight = shape_weights(chosen.shapes, self.size, normal.device)[:, None]
            if part is not None:
                on_part = chosen.on_part.float().to(normal.device)[:, None, None, None]
                weight = torch.lerp(weight, weight * pick(part, rows), on_part)
            if inside is not None:
                weight = weight * pick(inside, rows)
            put(simulated, rows, self._covered(pick(simulated, rows), chosen, weight, grey[rows]))
            put(shaped, rows, torch.maximum(pick(shaped, rows), weight))
        # A sample without the first anomaly has no other.
        if (rows := rows_where(parameters.layers[0].present)) is not None:
            before, after = pick(normal, rows), pick(simulated, rows)
            # Only now, because a later anomaly may cover an earlier one with what was there before.
            marked = visible(before, after).mul_(pick(shaped, rows).ge_(_INSIDE))
            # What is not marked must not be changed either, but for the soft edge of what is.
            put(simulated, rows, torch.lerp(before, after, dilate(marked, 7)))
            put(mask, rows, marked)

    def _covered(self, images: Tensor, layer: _Layer, weight: Tensor, grey: Tensor) -> Tensor:
        """The images under one more anomaly each; its weight is changed to what stands out."""
        filled = fill(layer.fills, images, self.normal_images, self.textures, grey, self.operations)
        moved = rows_where(is_filled_with(layer.fills, "other", "displaced"))
        if moved is not None:
            seen = stands_out(pick(images, moved), pick(filled, moved))
            put(weight, moved, pick(weight, moved) * seen)
        # A tone or a smear that is faint already would hardly be seen at a low opacity.
        own = is_filled_with(layer.fills, "tone", "smear")
        opacity = torch.where(own, 1.0, layer.opacity).to(images.device)
        return torch.lerp(images, filled, opacity[:, None, None, None] * weight)

    def _part(self, windows: Windows) -> Tensor | None:
        if self.foreground is None:
            return None
        return dilate(crop_windows(self.foreground, windows, self.size).gt_(0.5), 5)

    def _inside(self, windows: Windows) -> Tensor | None:
        if self.region_of_interest is None:
            return None
        region = (self.region_of_interest[None, None] * 255).to(torch.uint8)
        # One and the same for all pictures.
        first = torch.zeros_like(windows.pictures)
        windows = dataclasses.replace(windows, pictures=first)
        return crop_windows(resident(region), windows, self.size) > 0.5

    def _sample_parameters(self, step: int, size: int) -> _Parameters:
        profile = self.profile
        generator = sampling.seeded_generator(self.seed, step)
        uniform = partial(sampling.uniform, size, generator)
        count, _, height, width = self.normal_images.shape
        pictures = sampling.image_order(
            count, self.seed, step, size, with_replacement=profile.with_replacement
        )
        windows, rows, columns = self._sample_windows(pictures, generator)
        clean = uniform(0, 1) < profile.clean_share
        # Turned or enlarged, a window may have lost sight of the place.
        row, column = locate(windows, rows, columns, self.size)
        row, column = row.clamp(0, self.size[0] - 1), column.clamp(0, self.size[1] - 1)
        layers = []
        for number in range(profile.layers):
            layers.append(
                _Layer(
                    shapes=sample_shapes(
                        profile.shapes, row, column, profile.threshold, self.size, generator
                    ),
                    fills=sample_fills(
                        profile.fills,
                        windows,
                        (count, height, width),
                        (len(self.textures), self.textures.shape[2], self.textures.shape[3]),
                        self.size,
                        generator,
                        self.operations,
                        profile.operation_count,
                    ),
                    opacity=uniform(*profile.opacity),
                    present=~clean & (uniform(0, 1) >= 0.5) if number else ~clean,
                    on_part=uniform(0, 1) < _ON_PART_SHARE,
                )
            )
            row, column = uniform(0, self.size[0]), uniform(0, self.size[1])
        return _Parameters(windows, tuple(layers))

    def _sample_windows(
        self, pictures: Tensor, generator: torch.Generator
    ) -> tuple[Windows, Tensor, Tensor]:
        """One window per picture, around a place for an anomaly: its row and its column."""
        profile = self.profile
        uniform = partial(sampling.uniform, len(pictures), generator)
        height, width = self.normal_images.shape[2:]
        cell = torch.multinomial(self._places[pictures], 1, generator=generator)[:, 0]
        cells = -(-height // COARSE), -(-width // COARSE)
        rows = (cell // cells[1] + uniform(0, 1)) * (height / cells[0])
        columns = (cell % cells[1] + uniform(0, 1)) * (width / cells[1])
        turned = uniform(0, 1) < profile.rotation_share
        zoom = math.log(profile.zoom)
        coarse = 1.0 + (uniform(0, 1) < profile.coarse_share)
        reach = [side * coarse for side in self.size]  # of a window, in the picture's pixels
        windows = Windows(
            pictures=pictures,
            rows=centre(rows + uniform(-1 / 3, 1 / 3) * reach[0], reach[0], height),
            columns=centre(columns + uniform(-1 / 3, 1 / 3) * reach[1], reach[1], width),
            degrees=uniform(-profile.rotation_degrees, profile.rotation_degrees) * turned,
            scale=coarse * torch.exp(uniform(-zoom, zoom) * (uniform(0, 1) < 0.5)),
            mirrored=(uniform(0, 1) < 0.5) & profile.flips,
        )
        return windows, rows, columns


def centre(wanted: Tensor, reach: Tensor, side: int) -> Tensor:
    """The nearest centre for which a window is within the picture, on whole pixels.

    Args:
        wanted: (windows,) where the centre should be, in pixels.
        reach: (windows,) how many pixels the window spans; a window that spans more than there are
            holds all of them.
        side: Of the picture, in pixels.
    """
    half, spare = (reach - 1) / 2, side - reach
    return (wanted - half).clamp(spare.clamp(max=0), spare.clamp(min=0)).round() + half


def stands_out(images: Tensor, filled: Tensor) -> Tensor:
    """Where the product's own pixels, moved here, look different from what they cover.

    On grain every pixel changes when grain is moved, and yet nobody could tell: marking that would
    teach the network to suspect the grain. So it is local means that must differ.

    Args:
        images: (batch, 3, height, width) in [0, 1].
        filled: (batch, 3, height, width) in [0, 1].

    Returns:
        (batch, 1, height, width), 0 or 1; 1 also two pixels around such places.
    """
    change = box_blur(filled - images, 7).abs_().mean(1, keepdim=True)
    return dilate(change.gt_(_STANDS_OUT), 5)


def visible(normal: Tensor, simulated: Tensor) -> Tensor:
    """Where a change can be seen, and two pixels around it.

    Args:
        normal: (batch, 3, height, width) in [0, 1].
        simulated: (batch, 3, height, width) in [0, 1].

    Returns:
        (batch, 1, height, width), 0 or 1.
    """
    change = (simulated - normal).abs_().mean(1, keepdim=True)
    return dilate(box_blur(change, 3).gt_(_VISIBLE), 5)
