"""A small encoder, pretrained on ImageNet, whose features the preset `pretrained` compares.

Source:
    Tan and Le, EfficientNet, ICML 2019, in the variant Lite0: no squeeze-and-excitation, ReLU6 as
    the activation. The weights are Google's, under the Apache License 2.0; see
    `pretraining/encoder.py` for how they were converted.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = Path(__file__).parent / "efficientnet-lite0.safetensors"
"""Weights up to stride 16 in float16, batch normalisation folded into the convolutions."""
CHANNELS = (24, 40, 80, 112)
"""Channels of the feature maps."""
STRIDE = 8
"""Pixels of the image per cell of the finest feature maps, along a side."""
# What the network was trained on: pixels from 0 to 255, minus 127, divided by 128.
_SCALE, _OFFSET = 255 / 128, 127 / 128
_STEM = 32


class _Stage(NamedTuple):
    """Blocks of one output size: kernel, blocks, expansion of the channels, stride, channels."""

    kernel: int
    blocks: int
    expansion: int
    stride: int
    channels: int


_STAGES = (
    _Stage(3, 1, 1, 1, 16),
    _Stage(3, 2, 6, 2, CHANNELS[0]),
    _Stage(5, 2, 6, 2, CHANNELS[1]),
    _Stage(3, 3, 6, 2, CHANNELS[2]),
    _Stage(5, 3, 6, 1, CHANNELS[3]),
)


class Encoder(nn.Module):
    """EfficientNet-Lite0 up to stride 16, with batch normalisation folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, _STEM, 3, stride=2)
        stages, channels = [], _STEM
        for stage in _STAGES:
            blocks = []
            for number in range(stage.blocks):
                stride = 1 if number else stage.stride
                blocks.append(
                    _Block(channels, stage.channels, stage.kernel, stride, stage.expansion)
                )
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the features of images.

        Args:
            images: (batch, 3, height, width) RGB in [0, 1]; sides divisible by 32.

        Returns:
            (batch, 24, height / 8, width / 8), averaged from stride 4, (batch, 40, height / 8,
            width / 8), (batch, 80, height / 16, width / 16) and (batch, 112, height / 16,
            width / 16).
        """
        features = self.stem(images * _SCALE - _OFFSET)
        found = []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return functional.avg_pool2d(found[1], 2), found[2], found[3], found[4]


class _Convolution(nn.Module):
    """A convolution with TensorFlow's padding `SAME`, for sides that the stride divides."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        # With a stride there is one row and column less to add before than after.
        self._before, self._after = (kernel - stride) // 2, kernel - stride - (kernel - stride) // 2
        padding = 0 if stride > 1 else kernel // 2
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
        self._strided = stride > 1
        self._activation = activation

    def forward(self, features: Tensor) -> Tensor:
        if self._strided:
            before, after = self._before, self._after
            features = functional.pad(features, (before, after, before, after))
        features = self.convolution(features)
        return features.clamp(0, 6) if self._activation else features


class _Block(nn.Module):
    """An inverted residual block: expand, convolve each channel alone, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = [_Convolution(inputs, inner, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            _Convolution(inner, inner, kernel, stride=stride, groups=inner),
            _Convolution(inner, outputs, 1, activation=False),
        )
        self._residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers(features)
        return features + found if self._residual else found


def load_encoder() -> Encoder:
    """The encoder with the weights that come with draem, in float32, frozen.

    Raises:
        ModelFileError: The installed package lacks the file.
    """
    from draem.model_file import read_weights

    with torch.device("meta"):
        encoder = Encoder()
    state = {name: value.float() for name, value in read_weights(WEIGHTS).items()}
    encoder.load_state_dict(state, assign=True)
    return encoder.eval().requires_grad_(False)
