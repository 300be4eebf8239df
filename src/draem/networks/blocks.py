"""The building blocks of both sub-networks.

Source:
    Zavrtanik et al., ICCV 2021, with the layer choices of the published code: 3x3 convolutions
    with bias, batch normalisation, ReLU, 2x2 max pooling, bilinear upsampling with aligned corners.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from draem.networks.checkpointing import CheckpointedModule


def conv_unit(
    in_channels: int, out_channels: int, *, kernel_size: int = 3, bias: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU; keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv_stage(
    in_channels: int, mid_channels: int, out_channels: int, *, bias: bool = True
) -> nn.Sequential:
    """Two 3x3 convolution units in a row."""
    return nn.Sequential(
        conv_unit(in_channels, mid_channels, bias=bias),
        conv_unit(mid_channels, out_channels, bias=bias),
    )


class UpBlock(nn.Module):
    """Bilinear upsampling by two, then one convolution unit."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.unit = conv_unit(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, in_channels, h, w) to (batch, out_channels, 2h, 2w)."""
        enlarged = nn.functional.interpolate(
            features, scale_factor=2, mode="bilinear", align_corners=True
        )
        unit: Tensor = self.unit(enlarged)
        return unit


class StageStack(CheckpointedModule):
    """A module that runs stages with 2x2 max pooling between them."""

    def run_stages(self, stages: Iterable[nn.Module], features: Tensor) -> list[Tensor]:
        """The features after each stage, finest first; each has half the size of the one before."""
        levels: list[Tensor] = []
        for stage in stages:
            deeper = partial(_pooled, stage) if levels else stage
            features = self.checkpointed(deeper, features)
            levels.append(features)
        return levels


def _pooled(stage: nn.Module, features: Tensor) -> Tensor:
    deeper: Tensor = stage(nn.functional.max_pool2d(features, 2))
    return deeper


class Encoder(StageStack):
    """Stages of two convolution units with 2x2 max pooling between them."""

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        ins = (in_channels, *widths[:-1])
        self.stages = nn.ModuleList(
            conv_stage(before, after, after) for before, after in zip(ins, widths, strict=True)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """The features after each stage, finest first; each has half the size of the one before."""
        return self.run_stages(self.stages, features)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise every parameter and buffer; `generator` is the only source of randomness.

    Convolution weights are normal(0, 0.02), batch-normalisation weights normal(1, 0.02), as
    published; convolution biases follow PyTorch's default, uniform within 1 / sqrt(fan-in).

    Source:
        `weights_init` in the published training script.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.normal_(0.0, 0.02, generator=generator)
                assert part.bias is not None
                bound = 1 / math.sqrt(part.weight[0].numel())
                part.bias.uniform_(-bound, bound, generator=generator)
            elif isinstance(part, nn.BatchNorm2d):
                part.weight.normal_(1.0, 0.02, generator=generator)
                part.bias.zero_()
                part.reset_running_stats()
