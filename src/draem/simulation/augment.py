"""Augmentation of anomaly sources: a few operations drawn at random for each picture.

Point operations only change a pending table; the pixels are looked up once, when an operation
needs to see them or at the end.

Source:
    The paper's seven (Zavrtanik et al., section 3.3) are named there without ranges; the ranges
    here are ours. The published code's ten are imgaug's augmenters with its defaults; its
    brightness works on a brightness channel of a random colour space, ours on R, G and B alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draem.simulation import colors, tables
from draem.simulation.geometry import rotate

Draw = Callable[[int, torch.Generator], Tensor]
"""Draws the parameters of an operation: (batch, parameters) float32."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One augmentation.

    Exactly one of `table` and `pixels` is given.

    Attributes:
        name: As in the profile and in the method page.
        draw: Draws its parameters.
        table: A point operation: (parameters, value counts) to a (batch, 3, 256) table.
        pixels: Any other: (uint8 pictures, parameters) to uint8 pictures.
    """

    name: str
    draw: Draw
    table: Callable[[Tensor, Tensor], Tensor] | None = None
    pixels: Callable[[Tensor, Tensor], Tensor] | None = None


def _uniform(*ranges: tuple[float, float]) -> Draw:
    low = torch.tensor([pair[0] for pair in ranges])
    high = torch.tensor([pair[1] for pair in ranges])

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        return low + (high - low) * torch.rand(batch, len(ranges), generator=generator)

    return draw


def _whole(low: int, high: int) -> Draw:
    def draw(batch: int, generator: torch.Generator) -> Tensor:
        return torch.randint(low, high + 1, (batch, 1), generator=generator).float()

    return draw


def _half_solarize(batch: int, generator: torch.Generator) -> Tensor:
    applied = torch.rand(batch, 1, generator=generator) < 0.5
    threshold = torch.randint(32, 129, (batch, 1), generator=generator).float()
    return torch.where(applied, threshold, 256.0)


def _nothing(batch: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    return torch.zeros(batch, 0)


PAPER_OPERATIONS: tuple[Operation, ...] = (
    Operation("posterize", _whole(2, 6), lambda p, _: tables.posterize(p[:, 0])),
    Operation("sharpness", _uniform((0, 4)), pixels=lambda x, p: colors.sharpness(x, p[:, 0])),
    Operation("solarize", _uniform((32, 256)), lambda p, _: tables.solarize(p[:, 0])),
    Operation("equalize", _nothing, lambda _, counts: tables.equalize(counts)),
    Operation(
        "brightness",
        _uniform((0.5, 1.5)),
        lambda p, _: tables.scale_and_shift(p[:, 0], torch.zeros_like(p[:, 0])),
    ),
    Operation("color", _uniform((0, 3)), pixels=lambda x, p: colors.color(x, p[:, 0])),
    Operation("autocontrast", _nothing, lambda _, c: tables.autocontrast(c, c.new_zeros(len(c)))),
)

UPSTREAM_OPERATIONS: tuple[Operation, ...] = (
    Operation("gamma", _uniform((0.5, 2), (0.5, 2), (0.5, 2)), lambda p, _: tables.gamma(p)),
    Operation(
        "brightness",
        _uniform((0.8, 1.2), (-30, 30)),
        lambda p, _: tables.scale_and_shift(p[:, 0], p[:, 1]),
    ),
    Operation("sharpness", _uniform((0, 2)), pixels=lambda x, p: colors.sharpness(x, p[:, 0])),
    Operation(
        "hue_saturation",
        _uniform((-50 / 255, 50 / 255), (-50 / 255, 50 / 255)),
        pixels=lambda x, p: colors.hue_and_saturation(x, p[:, 0], p[:, 1]),
    ),
    Operation("solarize", _half_solarize, lambda p, _: tables.solarize(p[:, 0])),
    Operation("posterize", _whole(1, 8), lambda p, _: tables.posterize(p[:, 0])),
    Operation("invert", _nothing, lambda p, _: tables.invert(len(p), p.device)),
    Operation("autocontrast", _uniform((0, 20)), lambda p, c: tables.autocontrast(c, p[:, 0])),
    Operation("equalize", _nothing, lambda _, counts: tables.equalize(counts)),
    Operation("rotate", _uniform((-45, 45)), pixels=lambda x, p: rotate(x, p[:, 0], "black")),
)


@dataclass(frozen=True, slots=True)
class AugmentationPlan:
    """Which operations each picture gets, in order, and with which parameters.

    Attributes:
        choices: (batch, count) indices into the operations.
        parameters: For each place in the order, one (batch, parameters) tensor an operation.
    """

    choices: Tensor
    parameters: tuple[tuple[Tensor, ...], ...]


def draw_plan(
    operations: Sequence[Operation], batch: int, count: int, generator: torch.Generator
) -> AugmentationPlan:
    """Draw `count` different operations for each picture, in random order.

    Args:
        operations: To choose from.
        batch: Pictures.
        count: Operations a picture; 3 as published.
        generator: On the CPU, so that every device augments alike.
    """
    order = torch.rand(batch, len(operations), generator=generator).argsort(dim=1)
    parameters = tuple(
        tuple(operation.draw(batch, generator) for operation in operations) for _ in range(count)
    )
    return AugmentationPlan(order[:, :count], parameters)


def augment(images: Tensor, operations: Sequence[Operation], plan: AugmentationPlan) -> Tensor:
    """Augment each picture as planned.

    Args:
        images: (batch, 3, height, width) uint8 RGB.
        operations: Those that the plan was drawn from.
        plan: From `draw_plan`.

    Returns:
        (batch, 3, height, width) uint8; `images` is left as it was.
    """
    images = images.clone()
    counts = tables.value_counts(images)
    pending = tables.identity(len(images), images.device).clone()
    for place, drawn in enumerate(plan.parameters):
        for index, operation in enumerate(operations):
            rows = (plan.choices[:, place] == index).nonzero()[:, 0]
            if not len(rows):
                continue
            parameters = drawn[index][rows].to(images.device)
            rows = rows.to(images.device)
            if operation.table is not None:
                seen = tables.through(counts[rows], pending[rows])
                table = operation.table(parameters, seen)
                pending[rows] = table.gather(2, pending[rows].long())
            elif operation.pixels is not None:
                changed = operation.pixels(tables.apply(images[rows], pending[rows]), parameters)
                images[rows] = changed
                counts[rows] = tables.value_counts(changed)
                pending[rows] = tables.identity(len(rows), images.device)
    return tables.apply(images, pending)
