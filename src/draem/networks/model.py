"""DRAEM's two sub-networks, published or compact: reconstruct, then compare."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from draem.config import SIZE_STEP, ResolvedNetworkConfig
from draem.networks.blocks import initialise
from draem.networks.compact import (
    CompactDiscriminative,
    CompactReconstructive,
    initialise_compact,
)
from draem.networks.discriminative import DiscriminativeSubNetwork
from draem.networks.joint import DraemOutput, JointModel, check_image_size
from draem.networks.reconstructive import ReconstructiveSubNetwork


class Draem(JointModel):
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
