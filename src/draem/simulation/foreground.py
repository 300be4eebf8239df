"""Where the part is: told from a plain background, where there is one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_BORDER = 4
_CONTRAST = 0.1
_PLAIN_SHARE = 0.9
_SHARES = (0.01, 0.6)
_CHUNK = 64
COARSE = 8
"""Side, in pixels, of the cells that places are drawn from."""


def find_foreground(images: Tensor) -> Tensor | None:
    """The part in every picture, where the pictures show it before a plain background.

    A background is plain where more than 90 % of the picture's border lies within a tenth of the
    full range of the border's median colour; the part is what does not. It must fill between 1 %
    and 60 % of a picture, in at least 90 % of the pictures.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        (images, 1, height, width) uint8, 255 on the part and up to 6 pixels around it, and all over
        a picture that is an exception; None where there is no plain background.
    """
    found = [_part(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)]
    plain = torch.cat([each[1] for each in found])
    if plain.float().mean() < _PLAIN_SHARE:
        return None
    return torch.cat([each[0] for each in found])


def place_weights(foreground: Tensor | None, images: Tensor) -> Tensor:
    """How likely an anomaly falls into each cell of a coarse grid over each picture.

    Args:
        foreground: From `find_foreground`.
        images: (images, 3, height, width), for their number and size.

    Returns:
        (images, rows of cells, columns of cells) float32 on the CPU, each picture's sum 1: nine
        tenths on the part where there is one, the rest evenly everywhere.
    """
    count, _, height, width = images.shape
    cells = -(-height // COARSE), -(-width // COARSE)
    even = torch.full((count, *cells), 1 / (cells[0] * cells[1]))
    if foreground is None:
        return even
    share = torch.cat(
        [
            functional.adaptive_avg_pool2d(part.float(), cells)[:, 0].cpu()
            for part in torch.split(foreground, _CHUNK)
        ]
    )
    total = share.sum((1, 2), keepdim=True)
    return torch.where(total > 0, 0.9 * share / total.clamp(min=1e-6) + 0.1 * even, even)


def _part(images: Tensor) -> tuple[Tensor, Tensor]:
    pixels = images.float() / 255
    strips = (
        pixels[:, :, :_BORDER, :],
        pixels[:, :, -_BORDER:, :],
        pixels[:, :, :, :_BORDER],
        pixels[:, :, :, -_BORDER:],
    )
    border = torch.cat([strip.flatten(2) for strip in strips], dim=2)  # (images, 3, border pixels)
    background = border.median(dim=2, keepdim=True).values
    plain = ((border - background).abs().amax(1) < _CONTRAST).float().mean(1) > _PLAIN_SHARE
    away = (pixels - background[..., None]).abs().amax(1, keepdim=True)
    part = (functional.avg_pool2d(away, 5, 1, 2) > _CONTRAST).float()
    share = part.mean((1, 2, 3))
    usable = plain & (share > _SHARES[0]) & (share < _SHARES[1])
    grown = functional.max_pool2d(part, 9, 1, 4)
    grown = torch.where(usable[:, None, None, None], grown, 1.0)
    return (grown * 255).to(torch.uint8), usable
