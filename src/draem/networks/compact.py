"""Small sub-networks for CPUs: the published roles and data flow, fewer operations.

The published architecture spends most of its time at full resolution. The compact one turns blocks
of pixels into channels first (space to depth), so that its finest convolutions run at half or a
quarter of the resolution; the last layer turns channels into blocks of pixels again. Convolutions
before batch normalisation have no bias. Upsampling repeats pixels.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from torch import Tensor, nn

from draem.networks.blocks import StageStack, conv_stage, conv_unit
from draem.networks.checkpointing import CheckpointedModule


class CompactReconstructive(CheckpointedModule):
    """Encoder-decoder without skip connections, on blocks of 4x4 pixels, with a stride of 16.

    Args:
        width: Channels at a quarter of the resolution; 32 in the preset `compact`.
    """

    STRIDE = 16

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            conv_stage(48, w, w, bias=False),
            nn.MaxPool2d(2),
            conv_stage(w, 2 * w, 2 * w, bias=False),
            nn.MaxPool2d(2),
            conv_stage(2 * w, 4 * w, 4 * w, bias=False),
        )
        self.decoder = nn.Sequential(
            conv_unit(4 * w, 2 * w, kernel_size=1, bias=False),
            nn.Upsample(scale_factor=2),
            conv_unit(2 * w, 2 * w, bias=False),
            conv_unit(2 * w, w, kernel_size=1, bias=False),
            nn.Upsample(scale_factor=2),
            conv_stage(w, w, w, bias=False),
        )
        self.head = nn.Conv2d(w, 48, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width) in [0, 1] to its restoration; sides divisible by 16."""
        features = self.checkpointed(self.encoder, images)  # (batch, 4w, height / 16, width / 16)
        features = self.checkpointed(self.decoder, features)
        blocks = self.head(features)  # (batch, 48, height / 4, width / 4)
        return nn.functional.pixel_shuffle(blocks, 4)


class CompactDiscriminative(StageStack):
    """A U-Net of five levels, on blocks of 2x2 pixels, with a stride of 32.

    Args:
        width: Channels at half of the resolution; 16 in the preset `compact`.
    """

    STRIDE = 32

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        ins = (24, *widths)
        self.stages = nn.ModuleList(
            conv_stage(before, after, after, bias=False)
            for before, after in zip(ins, widths, strict=False)
        )
        self.narrowings = nn.ModuleList(
            conv_unit(below, here, kernel_size=1, bias=False)
            for here, below in itertools.pairwise(widths)
        )
        self.merges = nn.ModuleList(conv_unit(2 * here, here, bias=False) for here in widths[:-1])
        self.head = nn.Conv2d(width, 8, kernel_size=3, padding=1)

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Two (batch, 3, height, width) to (batch, 2, height, width) logits; sides by 32."""
        joined = torch.cat((reconstruction, images), dim=1)  # (batch, 6, height, width)
        features = nn.functional.pixel_unshuffle(joined, 2)  # (batch, 24, height / 2, width / 2)
        *skips, features = self.run_stages(self.stages, features)
        for level, skip in reversed(list(enumerate(skips))):
            features = self.checkpointed(partial(self._decode_level, level), features, skip)
        return nn.functional.pixel_shuffle(self.head(features), 2)

    def _decode_level(self, level: int, features: Tensor, skip: Tensor) -> Tensor:
        narrow = self.narrowings[level](features)
        enlarged = nn.functional.interpolate(narrow, scale_factor=2, mode="nearest")
        merged: Tensor = self.merges[level](torch.cat((enlarged, skip), dim=1))
        return merged


def initialise_compact(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise for short runs; `generator` is the only source of randomness.

    Convolution weights keep the variance of their input (He et al., 2015). The heads start at a
    tenth of that, so that the first outputs are near zero.
    """
    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, nn.Conv2d):
                scale = 0.1 if name.endswith("head") else 1.0
                spread = scale * math.sqrt(2 / part.weight[0].numel())
                part.weight.normal_(0.0, spread, generator=generator)
                if part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, nn.BatchNorm2d):
                part.weight.fill_(1)
                part.bias.zero_()
                part.reset_running_stats()
