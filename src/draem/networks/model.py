"""The joint model: reconstruct, then compare."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from draem.errors import ImageSizeError
from draem.networks.blocks import initialise
from draem.networks.compact import (
    CompactDiscriminative,
    CompactReconstructive,
    initialise_compact,
)
from draem.networks.discriminative import DiscriminativeSubNetwork
from draem.networks.recomputing import Sectioned
from draem.networks.reconstructive import ReconstructiveSubNetwork

Shape = Literal["published", "compact"]
SIZE_STEP = 32
"""Both sides of the input must be multiples of this many pixels."""


class DraemOutput(NamedTuple):
    """What the model gives in every mode.

    Attributes:
        reconstruction: (batch, 3, height, width), about [0, 1].
        mask_logits: (batch, 2, height, width); channel 0 normal, channel 1 anomalous.
    """

    reconstruction: Tensor
    mask_logits: Tensor


class Draem(nn.Module):
    """DRAEM's two sub-networks in one module.

    Args:
        reconstructive_width: Channels of the first stage; 128 as published. With 0 there is no
            reconstructive sub-network, and the discriminative one is given the image twice: the
            paper's ablation.
        discriminative_width: Channels of the first stage; 64 as published.
        shape: `published`, or `compact`: fewer operations, made for CPUs.
    """

    def __init__(
        self,
        reconstructive_width: int = 128,
        discriminative_width: int = 64,
        shape: Shape = "published",
    ) -> None:
        super().__init__()
        compact = shape == "compact"
        reconstructive = CompactReconstructive if compact else ReconstructiveSubNetwork
        discriminative = CompactDiscriminative if compact else DiscriminativeSubNetwork
        self.reconstructive: nn.Module = (
            reconstructive(reconstructive_width) if reconstructive_width else nn.Identity()
        )
        self.discriminative: nn.Module = discriminative(discriminative_width)

    def forward(self, images: Tensor) -> DraemOutput:
        """Reconstruct the images and mark what differs.

        Args:
            images: (batch, 3, height, width) RGB in [0, 1]; sides divisible by 32.

        Raises:
            ImageSizeError: A side is not divisible by 32.
        """
        check_image_size(images.shape[-2], images.shape[-1])
        reconstruction = self.reconstructive(images)
        return DraemOutput(reconstruction, self.discriminative(reconstruction, images))

    def recompute_activations(self, recompute: bool = True) -> None:
        """Train with less memory and more time: see `Sectioned`."""
        for part in self.modules():
            if isinstance(part, Sectioned):
                part.recompute = recompute


def build_draem(
    reconstructive_width: int = 128,
    discriminative_width: int = 64,
    shape: Shape = "published",
    *,
    seed: int = 0,
) -> Draem:
    """A freshly initialised model; the same seed gives the same weights.

    Args:
        reconstructive_width: Channels of the reconstructive sub-network's first stage.
        discriminative_width: Channels of the discriminative sub-network's first stage.
        shape: `published` or `compact`.
        seed: Decides the starting weights. Global random state is neither read nor changed.

    Example:
        >>> model = build_draem(4, 4, seed=1)
        >>> output = model(torch.zeros(1, 3, 32, 64))
        >>> tuple(output.reconstruction.shape), tuple(output.mask_logits.shape)
        ((1, 3, 32, 64), (1, 2, 32, 64))
    """
    with torch.device("meta"):
        model = Draem(reconstructive_width, discriminative_width, shape)
    model.to_empty(device="cpu")
    start = initialise_compact if shape == "compact" else initialise
    start(model, torch.Generator().manual_seed(seed))
    return model


def check_image_size(height: int, width: int) -> None:
    """Refuse an image size that the network's strides do not divide.

    Raises:
        ImageSizeError: It names the nearest sizes that fit.
    """
    if height >= SIZE_STEP and width >= SIZE_STEP and not (height % SIZE_STEP or width % SIZE_STEP):
        return
    sides = (height, width)
    down, near, up = (
        "x".join(str(SIZE_STEP * max(1, rounded(side / SIZE_STEP))) for side in sides)
        for rounded in (math.floor, round, math.ceil)
    )
    nearest = " or ".join(dict.fromkeys((near, down, up)))
    raise ImageSizeError(
        "the network cannot take this image size",
        expected=f"height and width to be multiples of {SIZE_STEP}",
        found=f"{height}x{width} (height x width)",
        hint=f"Use {nearest}",
    )
