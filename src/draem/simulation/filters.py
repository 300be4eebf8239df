"""Square filters, as sums and maxima of shifted pictures.

On a CPU these are several times as fast as torch's pooling, which does not vectorise over so few
channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def box_blur(images: Tensor, side: int) -> Tensor:
    """The mean over a square around each pixel; pictures go on beyond the border as they end there.

    Args:
        images: (batch, channels, height, width) float.
        side: Of the square, odd.
    """
    half = side // 2
    padded = functional.pad(images, (half, half, half, half), mode="replicate")
    sums = _along_both(padded, side, torch.add)
    return sums / side**2


def box_sum(images: Tensor, side: int) -> Tensor:
    """The sum over a square around each pixel; beyond the border there is nothing.

    Args:
        images: (batch, channels, height, width), of a type that holds the sums.
        side: Of the square, odd.
    """
    half = side // 2
    return _along_both(functional.pad(images, (half, half, half, half)), side, torch.add)


def dilate(mask: Tensor, side: int) -> Tensor:
    """The maximum over a square around each pixel.

    Args:
        mask: (batch, channels, height, width) not negative.
        side: Of the square, odd.
    """
    half = side // 2
    return _along_both(functional.pad(mask, (half, half, half, half)), side, torch.maximum)


def _along_both(padded: Tensor, side: int, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    for axis in (2, 3):
        padded = _along(padded, axis, side, join)
    return padded


def _along(line: Tensor, axis: int, side: int, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Runs of `side` pixels, joined from runs of 1, 2, 4, ... pixels: fewer steps than pixels."""
    runs = [line]
    while 2 ** len(runs) <= side:
        length = runs[-1].shape[axis]
        reach = 2 ** (len(runs) - 1)
        kept = length - reach
        runs.append(join(runs[-1].narrow(axis, 0, kept), runs[-1].narrow(axis, reach, kept)))
    length, covered = line.shape[axis] - side + 1, 2 ** (len(runs) - 1)
    joined = runs[-1].narrow(axis, 0, length)
    for power in range(len(runs) - 2, -1, -1):
        if side & 2**power:
            joined = join(joined, runs[power].narrow(axis, covered, length))
            covered += 2**power
    return joined
