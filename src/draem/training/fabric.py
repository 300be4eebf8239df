"""Lightning Fabric: devices, processes and precision of a run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from lightning.fabric import Fabric

from draem.networks.devices import multiplies_bf16

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def make_fabric(device: torch.device, devices: int, precision: str) -> Fabric:
    """Start the processes of a run; every one of them goes on from here.

    Args:
        device: Kind of the devices, or the only one.
        devices: How many; several run distributed data parallel (DDP).
        precision: `auto`, `32`, `bf16` or `16`.
    """
    cuda = device.type == "cuda"
    single = [device.index or 0] if cuda else 1
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=single if devices == 1 else devices,
        strategy="auto" if devices == 1 else "ddp",
        precision=precision_of(precision, device),
    )
    fabric.launch()
    return fabric


def precision_of(name: str, device: torch.device) -> Precision:
    """Fabric's name for a precision; `auto` is bf16 if the device has units for it."""
    if name != "auto":
        return _PRECISIONS[name]
    return _PRECISIONS["bf16" if multiplies_bf16(device) else "32"]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's advice to its developers from our users."""
    loggers = [logging.getLogger(name) for name in ("lightning.fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
