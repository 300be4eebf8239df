"""The joint model: reconstruct, then compare."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from draem.config import SIZE_STEP, ResolvedNetworkConfig
from draem.errors import ImageSizeError
from draem.networks.blocks import initialise
from draem.networks.checkpointing import CheckpointedModule
from draem.networks.compact import (
    CompactDiscriminative,
    CompactReconstructive,
    initialise_compact,
)
from draem.networks.discriminative import DiscriminativeSubNetwork
from draem.networks.reconstructive import ReconstructiveSubNetwork


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

    Without a reconstructive sub-network (a width of 0, the paper's ablation) the discriminative one
    is given the image twice.

    Args:
        config: Widths, architecture and scales; the published ones if omitted.
    """

    def __init__(self, config: ResolvedNetworkConfig | None = None) -> None:
        super().__init__()
        config = config or ResolvedNetworkConfig()
        self._scales = config.scales
        compact = config.architecture == "compact"
        reconstructive = CompactReconstructive if compact else ReconstructiveSubNetwork
        discriminative = CompactDiscriminative if compact else DiscriminativeSubNetwork
        width = config.reconstructive_width
        self.reconstructive: nn.Module = reconstructive(width) if width else nn.Identity()
        self.discriminative: nn.Module = discriminative(config.discriminative_width)

    def forward(self, images: Tensor) -> DraemOutput:
        """Reconstruct the images and mark what differs.

        In evaluation mode the logits are the mean over all scales; in training each sample shows
        one scale. The reconstruction is always at the images' own scale.

        Args:
            images: (batch, 3, height, width) RGB in [0, 1]; sides divisible by 32.

        Raises:
            ImageSizeError: A side is not divisible by 32.
        """
        check_image_size(images.shape[-2], images.shape[-1])
        output = self._at_one_scale(images)
        if self.training or self._scales == 1:
            return output
        logits = [output.mask_logits]
        for _ in range(1, self._scales):
            images = functional.avg_pool2d(images, 2)
            logits.append(self._enlarged_logits(images, output.mask_logits))
        return DraemOutput(output.reconstruction, torch.stack(logits).mean(0))

    def _at_one_scale(self, images: Tensor) -> DraemOutput:
        reconstruction = self.reconstructive(images)
        return DraemOutput(reconstruction, self.discriminative(reconstruction, images))

    def _enlarged_logits(self, images: Tensor, like: Tensor) -> Tensor:
        """The logits of images that were shrunk, at the size they had before."""
        height, width = images.shape[-2:]
        logits = self._at_one_scale(repeat_border(images, SIZE_STEP)).mask_logits
        logits = logits[..., :height, :width]
        return functional.interpolate(logits, size=like.shape[-2:], mode="bilinear")

    def use_channels_last(self) -> None:
        """Store weights in the order in which convolutions are fastest."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def checkpoint_activations(self, recompute: bool = True) -> None:
        """Train with less memory and more time; see `CheckpointedModule`."""
        for part in self.modules():
            if isinstance(part, CheckpointedModule):
                part.recompute = recompute


def repeat_border(images: Tensor, step: int) -> Tensor:
    """Bring both sides to multiples of `step` by repeating the last row and column.

    Args:
        images: (batch, channels, height, width).
        step: In pixels.
    """
    for axis in (-2, -1):
        missing = -images.shape[axis] % step
        if missing:
            # Written with these operations because every runtime has them, unlike padding modes.
            last = images.narrow(axis, images.shape[axis] - 1, 1)
            images = torch.cat((images, *[last] * missing), dim=axis)
    return images


def build_draem(config: ResolvedNetworkConfig | None = None, *, seed: int = 0) -> Draem:
    """A freshly initialised model; the same seed gives the same weights.

    Args:
        config: Widths, architecture and scales; the published ones if omitted.
        seed: Decides the starting weights. Global random state is neither read nor changed.

    Example:
        >>> small = ResolvedNetworkConfig(reconstructive_width=4, discriminative_width=4)
        >>> output = build_draem(small, seed=1)(torch.zeros(1, 3, 32, 64))
        >>> tuple(output.reconstruction.shape), tuple(output.mask_logits.shape)
        ((1, 3, 32, 64), (1, 2, 32, 64))
    """
    config = config or ResolvedNetworkConfig()
    with torch.device("meta"):
        model = Draem(config)
    model.to_empty(device="cpu")
    start = initialise_compact if config.architecture == "compact" else initialise
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
