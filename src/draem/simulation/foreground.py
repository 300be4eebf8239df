"""Where the part is: told from a plain background, if there is one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from draem.errors import InputError
from draem.simulation.device_images import DeviceImages
from draem.simulation.filters import box_sum, dilate

_BORDER = 4
_CONTRAST = 25
"""The most of 255 levels that are within a tenth of the full range."""
_CONTRAST_SUM = 637
"""The same for the sum of 25 pixels."""
_PLAIN_SHARE = 0.9
_SHARES = (0.01, 0.6)
COARSE = 8
"""Side, in pixels, of the cells that places are sampled from."""


def find_foreground(images: DeviceImages) -> DeviceImages | None:
    """The part in each image, if the images show it on a plain background.

    A background is plain if more than 90 % of the image's border is within a tenth of the full
    range of the border's median colour; the part is what is not. It must fill between 1 % and 60 %
    of an image, in at least 90 % of the images.

    Args:
        images: (images, 3, height, width) uint8 RGB.

    Returns:
        (images, 1, height, width) uint8, 255 on the part and up to 6 pixels around it, and all over
        an image that is an exception; None if there is no plain background.
    """
    found, without = None, 0
    for start, part in images.chunks():
        grown, shows_part = _part(part)
        without += int((~shows_part).sum())
        if len(images) - without < _PLAIN_SHARE * len(images):
            return None
        if found is None and shows_part.any():
            # Only now, as it takes a third of the room that the images take.
            found = images.empty((len(images), 1, *images.shape[2:]), torch.uint8)
            found[:start] = 255
        if found is not None:
            found[start : start + len(part)] = grown
    return None if found is None else images.computed(found)


def place_weights(foreground: DeviceImages | None, images: DeviceImages) -> Tensor:
    """How likely an anomaly falls into each cell of a coarse grid over each picture.

    Args:
        foreground: From `find_foreground`.
        images: (images, 3, height, width), for their number and size.

    Returns:
        (images, rows of cells, columns of cells) float32 on the CPU, each picture's sum 1: nine
        tenths on the part if there is one, the rest evenly everywhere.
    """
    count, _, height, width = images.shape
    cells = -(-height // COARSE), -(-width // COARSE)
    even = torch.full((1, *cells), 1 / (cells[0] * cells[1]))
    if foreground is None:
        return even.expand(count, -1, -1)
    shape = (count, *cells)
    weights = torch.empty(shape) if images.folder is None else images.empty(shape, torch.float32)
    for start, part in foreground.chunks():
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


def checked_roi(region: Tensor | None, images: DeviceImages) -> Tensor | None:
    """The region on the images' device; None if it is the whole image.

    Args:
        region: (height, width) bool, True where to inspect; None for everything.
        images: (images, 3, height, width).

    Raises:
        InputError: The region is no such mask, or there is nothing in it.
    """
    if region is None:
        return None
    if region.dtype != torch.bool or region.shape != images.shape[2:] or not region.any():
        raise InputError(
            "the region of interest cannot be used",
            expected=f"a bool tensor {tuple(images.shape[2:])} (height, width), not all False",
            found=f"{region.dtype} {tuple(region.shape)}",
        )
    return None if region.all() else region.to(images.device)


def within_roi(
    foreground: DeviceImages | None, region: Tensor | None, images: DeviceImages
) -> DeviceImages | None:
    """Where most anomalies should be: on the part, in the region of interest.

    Args:
        foreground: (images, 1, height, width) uint8, 255 on the part, which is changed in place;
            None if it is not known.
        region: (height, width) bool; None for everything.
        images: The images.

    Returns:
        As `foreground`; the whole region for an image whose part is entirely outside it.
    """
    if region is None:
        return foreground
    everywhere = (region[None, None] * 255).to(torch.uint8)
    if foreground is None:
        return images.computed(everywhere.expand(len(images), 1, -1, -1))
    kept = foreground.stored
    assert kept is not None
    for start, part in foreground.chunks():
        both = torch.minimum(part, everywhere)
        empty = both.flatten(1).amax(1) == 0
        both = torch.where(empty[:, None, None, None], everywhere, both)
        kept[start : start + len(part)] = both.to(kept.device)
    return foreground
