"""Drawn parameters: dataclasses whose fields have one row a sample."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def take(draws: T, rows: Tensor) -> T:
    """The draws of some of the samples."""
    return _each(draws, lambda value: value[rows])


def move(draws: T, device: torch.device) -> T:
    """The same draws on another device."""
    return _each(draws, lambda value: value.to(device))


def _each(draws: T, change: Any) -> T:
    fields = dataclasses.fields(draws)  # type: ignore[arg-type]
    changed = {field.name: _changed(getattr(draws, field.name), change) for field in fields}
    return dataclasses.replace(draws, **changed)  # type: ignore[type-var]


def _changed(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_changed(part, change) for part in value)
    return _each(value, change) if dataclasses.is_dataclass(value) else value
