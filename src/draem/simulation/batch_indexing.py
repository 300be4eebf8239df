"""Rows of a batch: some of its samples, in tensors and in dataclasses of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


Rows = Tensor | slice
"""Some of the samples of a batch: indices on the CPU, or a slice, which copies nothing."""

_PIXELS = 2**16


def rows_of(rows: Sequence[int], count: int) -> Rows:
    """Increasing rows of so many; those that follow each other are a slice."""
    if len(rows) == count:
        return slice(None)
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows)


def in_parts(count: int, pixels: int, device: torch.device) -> Iterator[slice]:
    """The samples of a batch that are best worked on together.

    A CPU is several times as fast where a thread's share stays in its cache, and where buffers stay
    so small that their memory need not come anew from the system; a GPU takes all at once.

    Args:
        count: Samples in the batch.
        pixels: Pixels in a sample.
        device: Where they are worked on.
    """
    together = torch.get_num_threads() * max(1, _PIXELS // pixels)
    step = max(1, together if device.type == "cpu" else count)
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def on_device(rows: Rows, device: torch.device) -> Rows:
    """The same rows for tensors on another device."""
    return rows if isinstance(rows, slice) else rows.to(device)


def pick(values: Tensor, rows: Rows) -> Tensor:
    """Some rows of a tensor on the same device; a view if the rows are a slice.

    On a CPU this copies whole rows, where indexing goes element by element.
    """
    return values[rows] if isinstance(rows, slice) else values.index_select(0, rows)


def put(values: Tensor, rows: Rows, new: Tensor) -> None:
    """Write some rows of a tensor; see `pick`."""
    if isinstance(rows, slice):
        values[rows] = new
    elif values.device.type == "cpu":
        for row, each in zip(rows.tolist(), new, strict=True):
            values[row] = each
    else:
        values.index_copy_(0, rows, new)


def take(draws: T, rows: Rows) -> T:
    """The fields of a dataclass, one row per sample, for some of the samples."""
    return (
        draws
        if isinstance(rows, slice) and rows == slice(None)
        else _each(draws, lambda value: value[rows])
    )


def move(draws: T, device: torch.device) -> T:
    """The fields of a dataclass, which are on the CPU, on another device."""
    return draws if device.type == "cpu" else _each(draws, lambda value: value.to(device))


def _each(draws: T, change: Any) -> T:
    fields = dataclasses.fields(draws)  # type: ignore[arg-type]
    changed = {field.name: _changed(getattr(draws, field.name), change) for field in fields}
    return type(draws)(**changed)


def _changed(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_changed(part, change) for part in value)
    return _each(value, change) if dataclasses.is_dataclass(value) else value
