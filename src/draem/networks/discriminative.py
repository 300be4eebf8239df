"""The discriminative sub-network: compares an image with its reconstruction, pixel by pixel."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from draem.networks.blocks import Encoder, UpBlock, conv_stage
from draem.networks.checkpointing import CheckpointedModule


class DiscriminativeSubNetwork(CheckpointedModule):
    """A U-Net over the reconstruction and the image, with two output classes.

    Args:
        width: Channels of the first stage; 64 as published (28,374,146 parameters).

    Source:
        Zavrtanik et al., ICCV 2021, section 3.2, and the published code.
    """

    STRIDE = 32

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w = width
        self.encoder = Encoder(6, (w, 2 * w, 4 * w, 8 * w, 8 * w, 8 * w))
        levels = (
            (8 * w, 8 * w, 8 * w),
            (8 * w, 4 * w, 8 * w),
            (4 * w, 2 * w, 4 * w),
            (2 * w, w, 2 * w),
            (w, w, w),
        )
        self.upwards = nn.ModuleList(UpBlock(below, after) for below, after, _ in levels)
        self.stages = nn.ModuleList(
            conv_stage(after + skipped, after, after) for _, after, skipped in levels
        )
        self.head = nn.Conv2d(w, 2, kernel_size=3, padding=1)

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mark what differs between images and their reconstructions.

        Args:
            reconstruction: (batch, 3, height, width), about [0, 1]; sides divisible by 32.
            images: (batch, 3, height, width) RGB in [0, 1].

        Returns:
            (batch, 2, height, width) logits; channel 0 normal, channel 1 anomalous.
        """
        joined = torch.cat((reconstruction, images), dim=1)  # (batch, 6, height, width)
        *skips, features = self.encoder(joined)
        for upward, stage in zip(self.upwards, self.stages, strict=True):
            features = self.checkpointed(
                partial(_decode_level, upward, stage), features, skips.pop()
            )
        logits: Tensor = self.head(features)
        return logits


def _decode_level(upward: nn.Module, stage: nn.Module, features: Tensor, skip: Tensor) -> Tensor:
    risen: Tensor = stage(torch.cat((upward(features), skip), dim=1))
    return risen
