"""Rotation of picture batches."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from draem.simulation.perlin import pixel_grid

Fill = Literal["black", "mirror"]


def rotate(images: Tensor, degrees: Tensor, fill: Fill) -> Tensor:
    """Rotate each picture about its centre, with bilinear interpolation.

    Args:
        images: (batch, channels, height, width) uint8 or float.
        degrees: (batch,) anticlockwise.
        fill: What comes in from beyond the border: black, or the picture mirrored.

    Returns:
        The shape and dtype of `images`.
    """
    height, width = images.shape[-2:]
    rows, columns = pixel_grid(height, width, degrees)
    grid = torch.stack((columns * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1), dim=-1)
    turned = torch.nn.functional.grid_sample(
        images.float(),
        grid,
        mode="bilinear",
        padding_mode="zeros" if fill == "black" else "reflection",
        align_corners=True,
    )
    if images.dtype == torch.uint8:
        return turned.round().clamp(0, 255).to(torch.uint8)
    return turned.to(images.dtype)
