"""Augmentation of anomaly sources: a few operations chosen at random for each picture.

Point operations only change a pending lookup table (LUT); it is applied to the pixels once, when an
operation needs to see them or at the end.

Source:
    The paper's seven (Zavrtanik et al., section 3.3) are named there without ranges; the ranges
    here are ours. The published code's ten are imgaug's augmenters; `docs/method.md` lists the
    small differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from draem.simulation import enhance, lut
from draem.simulation.batch_indexing import Rows, in_parts, pick, put, rows_of
from draem.simulation.geometry import rotate

Sample = Callable[[int, torch.Generator], Tensor]
"""Samples the parameters of an operation, (batch, parameters) float32."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One augmentation.

    Exactly one of `lut`, `fitted_lut` and `pixels` is given.

    Attributes:
        name: As in the profile and in the method page.
        sample: Samples its parameters.
        lut: A point operation: parameters to a (batch, 3, 256) table.
        fitted_lut: One that depends on the picture: (parameters, value counts) to such a table.
        pixels: Any other: (uint8 pictures, parameters) to uint8 pictures.
    """

    name: str
    sample: Sample
    lut: Callable[[Tensor], Tensor] | None = None
    fitted_lut: Callable[[Tensor, Tensor], Tensor] | None = None
    pixels: Callable[[Tensor, Tensor], Tensor] | None = None


def _uniform(*ranges: tuple[float, float]) -> Sample:
    low = torch.tensor([pair[0] for pair in ranges])
    high = torch.tensor([pair[1] for pair in ranges])

    def sample(batch: int, generator: torch.Generator) -> Tensor:
        return low + (high - low) * torch.rand(batch, len(ranges), generator=generator)

    return sample


def _whole(low: int, high: int) -> Sample:
    def sample(batch: int, generator: torch.Generator) -> Tensor:
        return torch.randint(low, high + 1, (batch, 1), generator=generator).float()

    return sample


def _solarize_half(batch: int, generator: torch.Generator) -> Tensor:
    applied = torch.rand(batch, 1, generator=generator) < 0.5
    threshold = torch.randint(32, 129, (batch, 1), generator=generator).float()
    return torch.where(applied, threshold, 256.0)


def _no_parameters(batch: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    return torch.zeros(batch, 0)


PAPER_OPERATIONS: tuple[Operation, ...] = (
    Operation("posterize", _whole(2, 6), lambda p: lut.posterize(p[:, 0])),
    Operation("sharpness", _uniform((0, 4)), pixels=lambda x, p: enhance.sharpness(x, p[:, 0])),
    Operation("solarize", _uniform((32, 256)), lambda p: lut.solarize(p[:, 0])),
    Operation("equalize", _no_parameters, fitted_lut=lambda _, c: lut.equalize(c)),
    Operation(
        "brightness",
        _uniform((0.5, 1.5)),
        lambda p: lut.scale_and_shift(p[:, 0], torch.zeros_like(p[:, 0])),
    ),
    Operation("color", _uniform((0, 3)), pixels=lambda x, p: enhance.color(x, p[:, 0])),
    Operation(
        "autocontrast",
        _no_parameters,
        fitted_lut=lambda _, c: lut.autocontrast(c, c.new_zeros(len(c))),
    ),
)

UPSTREAM_OPERATIONS: tuple[Operation, ...] = (
    Operation("gamma", _uniform((0.5, 2), (0.5, 2), (0.5, 2)), lambda p: lut.gamma(p)),
    Operation(
        "brightness",
        _uniform((0.8, 1.2), (-30, 30)),
        lambda p: lut.scale_and_shift(p[:, 0], p[:, 1]),
    ),
    Operation("sharpness", _uniform((0, 2)), pixels=lambda x, p: enhance.sharpness(x, p[:, 0])),
    Operation(
        "hue_saturation",
        _uniform((-50 / 255, 50 / 255), (-50 / 255, 50 / 255)),
        pixels=lambda x, p: enhance.hue_and_saturation(x, p[:, 0], p[:, 1]),
    ),
    Operation("solarize", _solarize_half, lambda p: lut.solarize(p[:, 0])),
    Operation("posterize", _whole(1, 8), lambda p: lut.posterize(p[:, 0])),
    Operation("invert", _no_parameters, lambda p: lut.invert(len(p), p.device)),
    Operation(
        "autocontrast", _uniform((0, 20)), fitted_lut=lambda p, c: lut.autocontrast(c, p[:, 0])
    ),
    Operation("equalize", _no_parameters, fitted_lut=lambda _, c: lut.equalize(c)),
    Operation("rotate", _uniform((-45, 45)), pixels=lambda x, p: rotate(x, p[:, 0], "black")),
)

OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "paper": PAPER_OPERATIONS,
    "upstream": UPSTREAM_OPERATIONS,
}


@dataclass(frozen=True, slots=True)
class AugmentationPlan:
    """Which operations each picture gets, in order, and with which parameters; on the CPU.

    Attributes:
        choices: (batch, count) indices into the operations.
        parameters: (batch, count, columns), for each place in the order those of all operations
            next to each other.
        columns: Which of them are each operation's.
    """

    choices: Tensor
    parameters: Tensor
    columns: tuple[slice, ...]


def sample_plan(
    operations: Sequence[Operation], batch: int, count: int, generator: torch.Generator
) -> AugmentationPlan:
    """Choose `count` different operations for each picture, in random order.

    Args:
        operations: To choose from.
        batch: Pictures.
        count: Operations per picture; 3 as published.
        generator: On the CPU, so that every device augments alike.
    """
    order = torch.rand(batch, len(operations), generator=generator).argsort(dim=1)
    sampled = [[each.sample(batch, generator) for each in operations] for _ in range(count)]
    ends = accumulate(part.shape[1] for part in sampled[0]) if sampled else ()
    columns = tuple(slice(*pair) for pair in pairwise((0, *ends)))
    parameters = [torch.cat(parts, dim=1) for parts in sampled]
    together = torch.stack(parameters, dim=1) if sampled else torch.zeros(batch, 0, 0)
    return AugmentationPlan(order[:, :count], together, columns)


def augment(images: Tensor, operations: Sequence[Operation], plan: AugmentationPlan) -> Tensor:
    """Augment each picture as planned.

    Args:
        images: (batch, 3, height, width) uint8 RGB; left as it is.
        operations: Those that the plan was sampled from.
        plan: From `sample_plan`.

    Returns:
        (batch, 3, height, width) uint8.
    """
    return lut.apply(*augment_but_last_lut(images, operations, plan))


def augment_but_last_lut(
    images: Tensor, operations: Sequence[Operation], plan: AugmentationPlan
) -> tuple[Tensor, Tensor]:
    """As `augment`, but the last lookup is left to the caller, who may scale its tables first.

    Returns:
        (batch, 3, height, width) uint8, and (batch, 3, 256) float32 tables to apply to these.
    """
    images = images.clone()
    luts = lut.identity(len(images), images.device).clone()
    waiting: set[int] = set()  # rows whose table is not the identity
    for place, chosen in enumerate(zip(*plan.choices.tolist(), strict=True)):
        for index in sorted(set(chosen)):
            rows = [row for row, each in enumerate(chosen) if each == index]
            operation, at = operations[index], rows_of(rows)
            parameters = plan.parameters[at, place, plan.columns[index]].to(images.device)
            pending = None if waiting.isdisjoint(rows) else pick(luts, at)
            if operation.pixels is None:
                table = _lut(operation, parameters, images, at, pending)
                put(luts, at, table if pending is None else table.gather(2, pending.long()))
                waiting.update(rows)
            else:
                changed = _by_parts(operation.pixels, pick(images, at), pending, parameters)
                put(images, at, changed)
                put(luts, at, lut.identity(len(rows), images.device))
                waiting.difference_update(rows)
    return images, luts


def _by_parts(
    change: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    pending: Tensor | None,
    parameters: Tensor,
) -> Tensor:
    changed = []
    for part in in_parts(len(images), images.shape[2:].numel(), images.device):
        seen = images[part] if pending is None else lut.apply(images[part], pending[part])
        changed.append(change(seen, parameters[part]))
    return changed[0] if len(changed) == 1 else torch.cat(changed)


def _lut(
    operation: Operation, parameters: Tensor, images: Tensor, rows: Rows, pending: Tensor | None
) -> Tensor:
    """A point operation's table, to be applied after those that are pending."""
    if operation.lut is not None:
        return operation.lut(parameters)
    assert operation.fitted_lut is not None
    counts = lut.value_counts(pick(images, rows))
    seen = counts if pending is None else lut.remap_counts(counts, pending)
    return operation.fitted_lut(parameters, seen)
