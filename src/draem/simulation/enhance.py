"""Augmentations that mix a pixel's channels or its neighbours, and so are no tables."""

from __future__ import annotations

import torch
from torch import Tensor

from draem.simulation.geometry import whole_levels

# Rec. 601 luma in 65536ths, as Pillow converts to grey; the sums are exact in float32.
_LUMA = (19595.0, 38470.0, 7471.0)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the picture's grey version: 0 grey, 1 unchanged, more is more colourful.

    Args:
        images: (batch, 3, height, width) uint8.
        factor: (batch,).

    Source:
        Pillow's ImageEnhance.Color.
    """
    pixels = images.float()
    red, green, blue = (pixels[:, channel : channel + 1] for channel in range(3))
    grey = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    grey = grey.add_(32768).div_(65536).floor_()
    return whole_levels(torch.lerp(grey, pixels, factor[:, None, None, None]))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed version: 0 smooth, 1 unchanged, more is sharper.

    Args:
        images: (batch, 3, height, width) uint8.
        factor: (batch,).

    Source:
        Pillow's ImageEnhance.Sharpness; the outermost pixels stay as they are.
    """
    # Sums over 3x3 pixels, the middle one five times, are whole numbers up to 13 * 255.
    pixels = images.to(torch.int16)
    inner = pixels[:, :, 1:-1, 1:-1]
    sums = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    sums = (sums[..., :-2] + sums[..., 1:-1]).add_(sums[..., 2:]).add_(inner, alpha=4)
    smooth = sums.float().div_(13).round_()
    sharpened = images.clone()
    sharpened[:, :, 1:-1, 1:-1] = whole_levels(
        torch.lerp(smooth, inner.float(), factor[:, None, None, None])
    )
    return sharpened


def hue_and_saturation(images: Tensor, turn: Tensor, saturation: Tensor) -> Tensor:
    """Turn the hue and shift the saturation, in HSV.

    Args:
        images: (batch, 3, height, width) uint8.
        turn: (batch,) in full turns of the colour circle.
        saturation: (batch,) added to the saturation, which is in [0, 1].
    """
    pixels = images.float().div_(255)
    red, green, blue = pixels.unbind(1)
    value = pixels.amax(1)  # (batch, height, width)
    chroma = value - pixels.amin(1)
    hue = _hue(red, green, blue, value, chroma).add_(6 * turn[:, None, None])
    grown = (chroma / value.clamp(min=1e-6)).add_(saturation[:, None, None]).clamp_(0, 1)
    grown = grown.mul_(value)[:, None]
    offsets = torch.tensor((5.0, 3.0, 1.0), device=images.device).view(1, 3, 1, 1)
    place = offsets + hue[:, None]
    place.sub_(place.div(6).floor_().mul_(6))
    ramp = torch.minimum(place, 4 - place).clamp_(0, 1)
    return whole_levels(ramp.mul_(grown).neg_().add_(value[:, None]).mul_(255))


def _hue(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """The hue in sixths of the colour circle, in [-1, 5]; 0 is red."""
    # Cases as numbers: torch chooses between tensors many times slower than it multiplies on a CPU.
    reddest = value.clone().eq_(red)
    greenest = value.clone().eq_(green).mul_(1 - reddest)
    bluest = (1 - reddest).sub_(greenest)
    step = reddest.mul_(green - blue)
    step.add_((blue - red).mul_(greenest)).add_((red - green).mul_(bluest))
    step.div_(chroma.clamp(min=1e-6))
    return step.add_(greenest, alpha=2).add_(bluest, alpha=4)
