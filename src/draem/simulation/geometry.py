"""Rotation of picture batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from draem.simulation.batch_indexing import in_parts
from draem.simulation.perlin import rotated_axes

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
    turned = torch.empty_like(images)
    for rows, part in rotated_parts(images, degrees, fill):
        turned[rows] = whole_levels(part) if images.dtype == torch.uint8 else part
    return turned


def rotated_parts(images: Tensor, degrees: Tensor, fill: Fill) -> Iterator[tuple[slice, Tensor]]:
    """What `rotate` returns, some pictures at a time: which, and these as float32, not rounded."""
    height, width = images.shape[-2:]
    down, right = rotated_axes(height, width, degrees)
    # As complex numbers, because columns and rows must stand side by side in memory.
    down, right = torch.complex(down[1], down[0]), torch.complex(right[1], right[0])
    sides = torch.tensor([width - 1.0, height - 1.0], device=degrees.device)
    middle, scale = (sides / 2).repeat(width, 1), (2 / sides).repeat(width, 1)
    for rows in in_parts(len(images), height * width, images.device):
        grid = torch.view_as_real(down[rows] + right[rows])  # (part, height, width, 2)
        yield (
            rows,
            torch.nn.functional.grid_sample(
                images[rows].float(),
                # Now -1 and 1 are the centres of the outermost pixels.
                grid.add_(middle).mul_(scale).sub_(1),
                mode="bilinear",
                padding_mode="zeros" if fill == "black" else "reflection",
                align_corners=True,
            ),
        )


def whole_levels(pixels: Tensor) -> Tensor:
    """The nearest whole numbers in [0, 255], as uint8; `pixels` are used up."""
    # Straight from float32 to uint8 torch takes several times as long on a CPU.
    return pixels.round_().clamp_(0, 255).to(torch.int16).to(torch.uint8)
