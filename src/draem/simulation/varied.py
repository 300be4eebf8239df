"""The profile `varied`: anomalies of many shapes and fills, over windows into the images.

Windows make every step cheaper than whole images and put most anomalies where the part is.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from draem.simulation.batch_indexing import on_device, pick, put, rows_of, take
from draem.simulation.device_images import resident
from draem.simulation.fills import Fills, draw_fills, fill, made_of
from draem.simulation.filters import box_blur, dilate
from draem.simulation.foreground import COARSE, find_foreground, place_weights, within_roi
from draem.simulation.grayscale import are_grayscale
from draem.simulation.shapes import Shapes, draw_shapes, shape_weights
from draem.simulation.simulator import SimulatedBatch, SimulatorInputs, seeded_generator
from draem.simulation.windows import Windows, crop_windows, locate

_VISIBLE = 0.02
"""Changes below this share of the full range, averaged over 3x3 pixels, are not anomalies."""
_STANDS_OUT = 0.08
"""Moved pixels count only where the mean over 7x7 pixels changes by more of the full range."""
_INSIDE = 0.4
"""A pixel that belongs to a shape by this share or more is marked."""
_ON_PART_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class _Layer:
    """One anomaly per sample."""

    shapes: Shapes
    fills: Fills
    opacity: Tensor
    absent: Tensor
    on_part: Tensor


@dataclass(frozen=True, slots=True)
class _Parameters:
    """All randomness of one batch, drawn on the CPU."""

    windows: Windows
    layers: tuple[_Layer, ...]


class VariedSimulator(SimulatorInputs):
    """Makes training batches of windows with anomalies of many kinds.

    As with `Simulator`, a batch depends on the seed and the step alone.

    Args:
        normal_images: (images, 3, height, width) uint8 RGB.
        textures: (textures, 3, any height, any width) uint8 RGB.
        profile: `VARIED`, or settings derived from it.
        seed: Decides everything random.
        region_of_interest: (height, width) bool, True where anomalies may lie; everywhere where
            left out.

    Raises:
        InputError: There are no images or textures, or they are no such tensors.
    """

    def _prepare(self) -> None:
        images, profile = self.normal_images, self.profile
        height, width = images.shape[2:]
        crop = profile.crop or max(height, width)
        self.size = min(crop, height), min(crop, width)
        count = len(images)
        part = find_foreground(images) if profile.on_part else None
        self.foreground = within_roi(part, self.region_of_interest, images)
        self._grey_images = (
            are_grayscale(images) if profile.grey_sources else torch.zeros(count, dtype=torch.bool)
        )
        self._places = place_weights(self.foreground, images).flatten(1)

    def batch(self, step: int, size: int, *, rank: int = 0, world: int = 1) -> SimulatedBatch:
        """One batch of windows; see `Simulator.batch`."""
        drawn = take(self._sample(step, size), slice(rank, None, world))
        opacity = drawn.layers[0].opacity.to(self.normal_images.device)
        normal = opacity.new_empty(len(opacity), 3, *self.size)
        batch = SimulatedBatch(
            normal, torch.empty_like(normal), torch.zeros_like(normal[:, :1]), opacity
        )
        with torch.inference_mode():  # as in `PaperSimulator`
            self._fill(batch, drawn)
        return batch

    def _fill(self, batch: SimulatedBatch, drawn: _Parameters) -> None:
        normal, simulated, mask, _ = batch
        normal.copy_(crop_windows(self.normal_images, drawn.windows, self.size))
        simulated.copy_(normal)
        shaped = torch.zeros_like(mask)
        part, grey = self._part(drawn.windows), self._grey_images[drawn.windows.pictures]
        inside = self._inside(drawn)
        for layer in drawn.layers:
            present = (~layer.absent).nonzero()[:, 0].tolist()
            if not present:
                continue
            rows = rows_of(present, len(normal))
            place = on_device(rows, normal.device)
            covered, weight = self._covered(
                pick(simulated, place),
                take(layer, rows),
                None if part is None else pick(part, place),
                None if inside is None else pick(inside, place),
                grey[rows],
            )
            put(simulated, place, covered)
            put(shaped, place, torch.maximum(pick(shaped, place), weight))
        # A sample without the first anomaly has no other.
        present = (~drawn.layers[0].absent).nonzero()[:, 0].tolist()
        if present:
            place = on_device(rows_of(present, len(normal)), normal.device)
            before, after = pick(normal, place), pick(simulated, place)
            # Only now, because a later anomaly may cover an earlier one with what was there before.
            marked = visible(before, after).mul_(pick(shaped, place).ge_(_INSIDE))
            # What is not marked must not be changed either, but for the soft edge of what is.
            put(simulated, place, torch.lerp(before, after, dilate(marked, 7)))
            put(mask, place, marked)

    def _covered(
        self,
        images: Tensor,
        layer: _Layer,
        part: Tensor | None,
        inside: Tensor | None,
        grey: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The images under one more anomaly each, and how far each pixel belongs to its shape."""
        device = images.device
        weight = shape_weights(layer.shapes, self.size, device)[:, None]
        if part is not None:
            on_part = layer.on_part.float().to(device)[:, None, None, None]
            weight = torch.lerp(weight, weight * part, on_part)
        if inside is not None:
            weight = weight * inside
        filled = fill(layer.fills, images, self.normal_images, self.textures, grey, self.operations)
        moved = made_of(layer.fills, "other", "displaced").nonzero()[:, 0].tolist()
        if moved:
            place = on_device(rows_of(moved, len(weight)), device)
            seen = stands_out(pick(images, place), pick(filled, place))
            put(weight, place, pick(weight, place) * seen)
        # A tone or a smear that is faint already would hardly be seen at a low opacity.
        own = made_of(layer.fills, "tone", "smear")
        opacity = torch.where(own, 1.0, layer.opacity).to(device)
        return torch.lerp(images, filled, opacity[:, None, None, None] * weight), weight

    def _part(self, windows: Windows) -> Tensor | None:
        if self.foreground is None:
            return None
        return dilate(crop_windows(self.foreground, windows, self.size).gt_(0.5), 5)

    def inside(self, step: int, size: int) -> Tensor | None:
        """Where the region of interest is in the windows of a batch; see `Simulator.inside`."""
        return self._inside(self._sample(step, size))

    def _inside(self, drawn: _Parameters) -> Tensor | None:
        if self.region_of_interest is None:
            return None
        region = (self.region_of_interest[None, None] * 255).to(torch.uint8)
        # One and the same for all pictures.
        first = torch.zeros_like(drawn.windows.pictures)
        windows = dataclasses.replace(drawn.windows, pictures=first)
        return crop_windows(resident(region), windows, self.size) > 0.5

    def _sample(self, step: int, size: int) -> _Parameters:
        profile = self.profile
        generator = seeded_generator(self.seed, step)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(size, generator=generator)

        pictures = self.image_order(step, size)
        count, _, height, width = self.normal_images.shape
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
        clean = uniform(0, 1) < profile.clean_share
        # Turned or enlarged, a window may have lost sight of the place.
        row, column = locate(windows, rows, columns, self.size)
        row, column = row.clamp(0, self.size[0] - 1), column.clamp(0, self.size[1] - 1)
        layers = []
        for number in range(profile.layers):
            layers.append(
                _Layer(
                    shapes=draw_shapes(
                        profile.shapes, row, column, profile.threshold, self.size, generator
                    ),
                    fills=draw_fills(
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
                    absent=clean | (uniform(0, 1) < 0.5) if number else clean,
                    on_part=uniform(0, 1) < _ON_PART_SHARE,
                )
            )
            row, column = uniform(0, self.size[0]), uniform(0, self.size[1])
        return _Parameters(windows, tuple(layers))


def centre(wanted: Tensor, reach: Tensor, side: int) -> Tensor:
    """The nearest centre for which a window is within the picture, on whole pixels.

    Args:
        wanted: (windows,) where the centre should lie, in pixels.
        reach: (windows,) how many pixels the window spans; where it spans more than there are, all
            of them come to be within the window.
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
