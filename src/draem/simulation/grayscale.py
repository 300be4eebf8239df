"""Whether images are grayscale, so that colour alone would give anomalies away."""

from __future__ import annotations

import torch
from torch import Tensor

from draem.simulation.device_images import DeviceImages

_GREY_SPREAD = 1.0


def is_grayscale(images: DeviceImages) -> bool:
    """Whether all images are grayscale.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        True if the channels differ by less than one of 255 levels on average.
    """
    return _color_spread(images).mean().item() < _GREY_SPREAD


def are_grayscale(images: DeviceImages) -> Tensor:
    """Which images are grayscale.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        (images,) bool on the CPU.
    """
    return _color_spread(images) < _GREY_SPREAD


def _color_spread(images: DeviceImages) -> Tensor:
    """How far apart the channels are in each image, in levels, (images,) on the CPU."""
    # One tensor from the start: small ones, kept between large ones that come and go, would keep
    # the allocator from giving the large ones' room to the next, and memory would grow.
    spreads = torch.empty(len(images))
    for start, part in images.chunks():
        red, green, blue = part.unbind(1)
        spread = torch.maximum(torch.maximum(red, green), blue)
        spread = spread - torch.minimum(torch.minimum(red, green), blue)
        # A sum of whole numbers is the same in whatever order the pixels are.
        total = spread.sum((1, 2), dtype=torch.int64)
        spreads[start : start + len(part)] = total / spread[0].numel()
    return spreads
