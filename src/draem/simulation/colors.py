"""Augmentations that mix a pixel's channels or its neighbours, and so are no tables."""

from __future__ import annotations

import torch
from torch import Tensor

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
    weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
    grey = (((pixels * weights).sum(1, keepdim=True) + 32768) / 65536).floor()
    return _whole(torch.lerp(grey, pixels, factor[:, None, None, None]))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed version: 0 smooth, 1 unchanged, more is sharper.

    Args:
        images: (batch, 3, height, width) uint8.
        factor: (batch,).

    Source:
        Pillow's ImageEnhance.Sharpness; the outermost pixels stay as they are.
    """
    pixels = images.float()
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    smooth = pixels.clone()
    inner = torch.nn.functional.conv2d(pixels, kernel / 13, groups=3)
    smooth[:, :, 1:-1, 1:-1] = inner.round()
    return _whole(torch.lerp(smooth, pixels, factor[:, None, None, None]))


def hue_and_saturation(images: Tensor, turn: Tensor, saturation: Tensor) -> Tensor:
    """Turn the hue and shift the saturation, in HSV.

    Args:
        images: (batch, 3, height, width) uint8.
        turn: (batch,) in full turns of the colour circle.
        saturation: (batch,) added to the saturation, which lies in [0, 1].
    """
    pixels = images.float() / 255
    value = pixels.amax(1)  # (batch, height, width)
    chroma = value - pixels.amin(1)
    red, green, blue = pixels.unbind(1)
    safe = chroma.clamp(min=1e-6)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + 6 * turn[:, None, None]
    grown = (chroma / value.clamp(min=1e-6) + saturation[:, None, None]).clamp(0, 1) * value
    offsets = torch.tensor((5.0, 3.0, 1.0), device=images.device).view(1, 3, 1, 1)
    place = (offsets + hue[:, None]) % 6
    ramp = torch.minimum(place, 4 - place).clamp(0, 1)
    return _whole((value[:, None] - grown[:, None] * ramp) * 255)


def _whole(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)
