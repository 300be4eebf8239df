"""Whether pictures are grey, so that coloured anomalies would give themselves away."""

from __future__ import annotations

import torch
from torch import Tensor

_GREY_SPREAD = 1.0


def is_grey(images: Tensor) -> bool:
    """Whether pictures hold no colour worth the name.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        True where the channels differ by less than one of 255 levels on average.
    """
    return _color_spread(images).mean().item() < _GREY_SPREAD


def are_grey(images: Tensor) -> Tensor:
    """Which of the pictures hold no colour worth the name.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        (images,) bool on the CPU.
    """
    return (_color_spread(images) < _GREY_SPREAD).cpu()


def _color_spread(images: Tensor) -> Tensor:
    """How far apart the channels are in each picture, in levels, (images,)."""
    spreads = []
    for part in torch.split(images, 64):  # a float copy of everything would be too large
        red, green, blue = part.unbind(1)
        spread = torch.maximum(torch.maximum(red, green), blue)
        spread = spread - torch.minimum(torch.minimum(red, green), blue)
        spreads.append(spread.float().mean((1, 2)))
    return torch.cat(spreads)
