"""Point operations as lookup tables (LUTs): a new value for each of the 256 old ones.

Every function makes one table per batch row and channel, (batch, 3, 256) float32 holding whole
numbers in [0, 255]. Tables compose: `second.gather(2, first)` is first, then second.

Source:
    Posterize, solarize, auto-contrast, equalize and brightness follow Pillow's ImageOps and
    ImageEnhance, whose results the tests compare; parameters are the caller's.
"""

from __future__ import annotations

import torch
from torch import Tensor


def identity(batch: int, device: torch.device | None = None) -> Tensor:
    """The table that changes nothing."""
    return torch.arange(256.0, device=device).expand(batch, 3, 256)


def posterize(bits: Tensor) -> Tensor:
    """Keep the highest bits.

    Args:
        bits: (batch,) whole numbers in [1, 8].
    """
    step = 2.0 ** (8 - bits.float())[:, None, None]
    return (identity(len(bits), bits.device) / step).floor() * step


def solarize(threshold: Tensor) -> Tensor:
    """Invert the values at or above a threshold.

    Args:
        threshold: (batch,) in [0, 256]; 256 changes nothing.
    """
    values = identity(len(threshold), threshold.device)
    return torch.where(values < threshold[:, None, None], values, 255 - values)


def invert(batch: int, device: torch.device | None = None) -> Tensor:
    """Invert every value."""
    return 255 - identity(batch, device)


def scale_and_shift(factor: Tensor, offset: Tensor) -> Tensor:
    """Multiply, then add; brightness is the case of offset 0.

    Args:
        factor: (batch,) or (batch, 3).
        offset: (batch,) or (batch, 3), in grey levels.
    """
    factor, offset = (part.reshape(len(part), -1, 1) for part in (factor, offset))
    return _whole(identity(len(factor), factor.device) * factor + offset)


def gamma(exponent: Tensor) -> Tensor:
    """Raise the values, scaled to [0, 1], to a power.

    Args:
        exponent: (batch, 3), positive; one per channel.
    """
    values = identity(len(exponent), exponent.device) / 255
    return _whole(values ** exponent[:, :, None] * 255)


def autocontrast(counts: Tensor, cutoff: Tensor) -> Tensor:
    """Stretch each channel so that its darkest value becomes 0 and its lightest 255.

    Args:
        counts: (batch, 3, 256) how often each value occurs.
        cutoff: (batch,) percent of the pixels, in [0, 50), ignored at either end.
    """
    reached = counts.cumsum(2)  # (batch, 3, 256)
    total = reached[:, :, -1:]
    cut = (total * cutoff[:, None, None] / 100).floor()
    lowest = (reached <= cut).sum(2, keepdim=True)
    highest = (reached < total - cut).sum(2, keepdim=True)
    spread = (highest - lowest).clamp(min=1)
    values = identity(len(counts), counts.device)
    # Dividing last keeps whole results whole, so that the highest value becomes 255 and not 254.
    stretched = ((values - lowest) * 255 / spread).floor().clamp(0, 255)
    return torch.where(highest <= lowest, values, stretched)


def equalize(counts: Tensor) -> Tensor:
    """Spread each channel's values so that they occur about equally often.

    Args:
        counts: (batch, 3, 256) how often each value occurs.
    """
    present = counts > 0
    last = 255 - present.flip(2).float().argmax(2, keepdim=True)
    step = ((counts.sum(2, keepdim=True) - counts.gather(2, last)) / 255).floor()
    below = counts.cumsum(2) - counts
    spread = ((step / 2).floor() + below).div(step.clamp(min=1)).floor().clamp(0, 255)
    usable = (step > 0) & (present.sum(2, keepdim=True) > 1)
    return torch.where(usable, spread, identity(len(counts), counts.device))


def value_counts(images: Tensor) -> Tensor:
    """How often each value occurs.

    Args:
        images: (batch, 3, height, width) uint8.

    Returns:
        (batch, 3, 256) float32.
    """
    values = images.reshape(-1, images.shape[2] * images.shape[3])
    counts = _bins(values) if images.device.type == "cpu" else _scattered(values)
    return counts.view(-1, 3, 256)


def _bins(values: Tensor) -> Tensor:
    """How often each value occurs in each row, (rows, 256); on the CPU."""
    return torch.stack([torch.bincount(row, minlength=256) for row in values]).float()


def _scattered(values: Tensor) -> Tensor:
    """The same on any device: `bincount` would wait for a GPU."""
    counts = torch.zeros(len(values), 256, device=values.device)
    return counts.scatter_add_(1, values.long(), counts.new_ones(()).expand(values.shape))


def remap_counts(counts: Tensor, table: Tensor) -> Tensor:
    """The value counts that images have after a table: both (batch, 3, 256)."""
    return torch.zeros_like(counts).scatter_add_(2, table.long(), counts)


def apply(images: Tensor, table: Tensor) -> Tensor:
    """Look every pixel up.

    Args:
        images: (batch, 3, height, width) uint8.
        table: (batch, 3, 256).

    Returns:
        (batch, 3, height, width) uint8.
    """
    return gather(images, table.to(torch.uint8))


def gather(images: Tensor, table: Tensor) -> Tensor:
    """As `apply`, in the dtype of the table."""
    return table.gather(2, images.flatten(2).long()).view(images.shape)


def _whole(values: Tensor) -> Tensor:
    return values.clamp(0, 255).round()
