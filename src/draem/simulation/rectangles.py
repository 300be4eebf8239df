"""Rectangular masks, as in an ablation of the paper."""

from __future__ import annotations

import torch
from torch import Tensor


def rectangles(size: tuple[int, int], uniforms: Tensor) -> Tensor:
    """Masks of one to three rectangles with sides of a fiftieth to four tenths of the picture's.

    Args:
        size: Height and width in pixels.
        uniforms: (batch, 3, 5) in [0, 1): for each rectangle its height, width, top and left, and
            whether it is there; the first always is.

    Returns:
        (batch, height, width) bool.
    """
    marked = torch.zeros(len(uniforms), *size, dtype=torch.bool, device=uniforms.device)
    for number, uniform in enumerate(uniforms.unbind(1)):
        inside = torch.ones_like(marked)
        for axis, side in enumerate(size):
            length = (side * (0.02 + 0.38 * uniform[:, axis])).ceil()
            first = (uniform[:, 2 + axis] * (side - length + 1)).floor()
            places = torch.arange(side, device=uniforms.device)
            along = (places >= first[:, None]) & (places < (first + length)[:, None])
            inside &= along[:, :, None] if axis == 0 else along[:, None, :]
        there = uniform[:, 4] < (1.0 if number == 0 else 0.5)
        marked |= inside & there[:, None, None]
    return marked
