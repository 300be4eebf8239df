"""What every network of draem has in common: what it takes and what it gives."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from draem.config import SIZE_STEP
from draem.errors import ImageSizeError
from draem.networks.checkpointing import CheckpointedModule


class DraemOutput(NamedTuple):
    """What the model gives in every mode.

    Attributes:
        reconstruction: (batch, 3, height, width), about [0, 1].
        mask_logits: (batch, 2, height, width); channel 0 normal, channel 1 anomalous.
    """

    reconstruction: Tensor
    mask_logits: Tensor


class JointModel(nn.Module):
    """A network that restores what is normal and marks what differs from it."""

    def forward(self, images: Tensor) -> DraemOutput:
        """Restore and mark.

        Args:
            images: (batch, 3, height, width) RGB in [0, 1]; sides divisible by 32.
        """
        raise NotImplementedError

    def use_channels_last(self) -> None:
        """Store weights in the order in which convolutions are fastest."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def checkpoint_activations(self, recompute: bool = True) -> None:
        """Train with less memory and more time; see `CheckpointedModule`."""
        for part in self.modules():
            if isinstance(part, CheckpointedModule):
                part.recompute = recompute


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
