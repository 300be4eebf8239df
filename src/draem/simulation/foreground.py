"""Where the part is: told from a plain background, where there is one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from draem.simulation.filters import box_sum, dilate
from draem.simulation.pictures import Pictures, all_of, chunks, room_beside

_BORDER = 4
_CONTRAST = 25
"""The most of 255 levels that are within a tenth of the full range."""
_CONTRAST_SUM = 637
"""The same for the sum of 25 pixels."""
_PLAIN_SHARE = 0.9
_SHARES = (0.01, 0.6)
COARSE = 8
"""Side, in pixels, of the cells that places are drawn from."""


def find_foreground(images: Tensor | Pictures) -> Tensor | Pictures | None:
    """The part in every picture, where the pictures show it before a plain background.

    A background is plain where more than 90 % of the picture's border lies within a tenth of the
    full range of the border's median colour; the part is what does not. It must fill between 1 %
    and 60 % of a picture, in at least 90 % of the pictures.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        (images, 1, height, width) uint8, 255 on the part and up to 6 pixels around it, and all over
        a picture that is an exception, and where `images` lie; None where there is no plain
        background.
    """
    found, without = None, 0
    for start, part in chunks(images):
        grown, shows_part = _part(part)
        without += int((~shows_part).sum())
        if len(images) - without < _PLAIN_SHARE * len(images):
            return None
        if found is None and shows_part.any():
            # Only now, as it takes a third of the room that the images take.
            found = room_beside(images, (len(images), 1, *images.shape[2:]), torch.uint8)
            found[:start] = 255
        if found is not None:
            found[start : start + len(part)] = grown
    if isinstance(images, Tensor) or found is None:
        return found
    return all_of(found, images.device, images.folder)


def place_weights(foreground: Tensor | Pictures | None, images: Tensor | Pictures) -> Tensor:
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
    even = torch.full((1, *cells), 1 / (cells[0] * cells[1]))
    if foreground is None:
        return even.expand(count, -1, -1)
    on_disk = isinstance(images, Pictures)
    shape = (count, *cells)
    weights = room_beside(images, shape, torch.float32) if on_disk else torch.empty(shape)
    for start, part in chunks(foreground):
        share = functional.adaptive_avg_pool2d(part.float(), cells)[:, 0].cpu()
        total = share.sum((1, 2), keepdim=True)
        weights[start : start + len(part)] = torch.where(
            total > 0, 0.9 * share / total.clamp(min=1e-6) + 0.1 * even, even
        )
    return weights


def _part(images: Tensor) -> tuple[Tensor, Tensor]:
    """The part in each picture, grown, as 0 and 255; and whether the picture shows one."""
    strips = (
        images[:, :, :_BORDER, :],
        images[:, :, -_BORDER:, :],
        images[:, :, :, :_BORDER],
        images[:, :, :, -_BORDER:],
    )
    border = torch.cat([strip.flatten(2) for strip in strips], dim=2).to(torch.int16)
    background = border.median(dim=2, keepdim=True).values  # (images, 3, 1)
    even = (border - background).abs().amax(1) <= _CONTRAST
    plain = even.float().mean(1) > _PLAIN_SHARE
    away = (images.to(torch.int16) - background[..., None]).abs().amax(1, keepdim=True)
    part = (box_sum(away, 5) > _CONTRAST_SUM).to(torch.uint8)
    share = part.float().mean((1, 2, 3))
    usable = plain & (share > _SHARES[0]) & (share < _SHARES[1])
    grown = torch.where(usable[:, None, None, None], 255 * dilate(part, 9), 255)
    return grown.to(torch.uint8), usable
