"""The region of interest in training: nothing is simulated outside it."""

from __future__ import annotations

import torch
from torch import Tensor

from draem.errors import InputError
from draem.simulation.pictures import Pictures, chunks


def checked_roi(region: Tensor | None, images: Tensor | Pictures) -> Tensor | None:
    """The region on the images' device; None where it is the whole image.

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
    foreground: Tensor | Pictures | None, region: Tensor | None, count: int
) -> Tensor | Pictures | None:
    """Where anomalies should mostly lie: on the part, in the region of interest.

    Args:
        foreground: (images, 1, height, width) uint8, 255 on the part, which is changed in place;
            None where it is not known.
        region: (height, width) bool; None for everything.
        count: Number of images.

    Returns:
        As `foreground`; the whole region for a picture none of whose part lies in it.
    """
    if region is None:
        return foreground
    everywhere = (region[None, None] * 255).to(torch.uint8)
    if foreground is None:
        return everywhere.expand(count, 1, -1, -1)
    kept = foreground.stored if isinstance(foreground, Pictures) else foreground
    for start, part in chunks(foreground):
        both = torch.minimum(part, everywhere)
        empty = both.flatten(1).amax(1) == 0
        both = torch.where(empty[:, None, None, None], everywhere, both)
        kept[start : start + len(part)] = both.to(kept.device)
    return foreground
