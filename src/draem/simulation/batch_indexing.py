"""Some rows of a batch: read, written, and taken from sampled parameters.

On a CPU whole rows are copied at a time, which takes a fifth (reading) and half (writing) of the
time that indexing takes, which goes element by element.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")

Rows = Tensor | slice
"""Some of the samples of a batch: indices on the CPU, or a slice, which copies nothing."""

_PIXELS = 2**16


def rows_of(rows: Sequence[int]) -> Rows:
    """At least one increasing row; those that follow each other are a slice."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows)


def rows_where(chosen: Tensor) -> Rows | None:
    """The rows that are True in (batch,) bool on the CPU; None if there are none."""
    rows = chosen.nonzero()[:, 0].tolist()
    return rows_of(rows) if rows else None


def in_parts(count: int, pixels: int, device: torch.device) -> Iterator[slice]:
    """The samples of a batch that are best worked on together.

    A CPU is several times as fast if a thread's share stays in its cache, and if buffers stay so
    small that their memory need not come anew from the system; a GPU takes all at once.

    Args:
        count: Samples in the batch.
        pixels: Pixels per sample.
        device: Where they are worked on.
    """
    together = torch.get_num_threads() * max(1, _PIXELS // pixels)
    step = max(1, together if device.type == "cpu" else count)
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def pick(values: Tensor, rows: Rows) -> Tensor:
    """Some rows of a tensor; a view if the rows are a slice."""
    return values[rows] if isinstance(rows, slice) else values.index_select(0, _on(values, rows))


def put(values: Tensor, rows: Rows, new: Tensor) -> None:
    """Write some rows of a tensor."""
    if isinstance(rows, slice):
        values[rows] = new
    elif values.device.type == "cpu":
        for row, each in zip(rows.tolist(), new, strict=True):
            values[row] = each
    else:
        values.index_copy_(0, _on(values, rows), new)


def take(parameters: T, rows: Rows) -> T:
    """Some rows of each tensor in a dataclass, nested ones included."""
    return cast("T", _changed(parameters, lambda value: value[rows]))


def move(parameters: T, device: torch.device) -> T:
    """The tensors of a dataclass, nested ones included, on another device."""
    return cast("T", _changed(parameters, lambda value: value.to(device)))


def _on(values: Tensor, rows: Tensor) -> Tensor:
    # Copied from pageable memory, rows are safe to reuse at once, and nothing waits for a GPU.
    return rows.to(values.device, non_blocking=True)


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_changed(part, change) for part in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    names = [field.name for field in dataclasses.fields(value)]
    return dataclasses.replace(
        value, **{name: _changed(getattr(value, name), change) for name in names}
    )
