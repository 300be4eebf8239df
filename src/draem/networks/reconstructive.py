"""The reconstructive sub-network: restores a normal image from an anomalous one."""

from __future__ import annotations

from torch import Tensor, nn

from draem.networks.blocks import Encoder, UpBlock, conv_stage
from draem.networks.checkpointing import CheckpointedModule


class ReconstructiveSubNetwork(CheckpointedModule):
    """Encoder-decoder without skip connections, so that anomalies do not pass through.

    Args:
        width: Channels of the first stage; 128 as published (69,048,579 parameters).

    Source:
        Zavrtanik et al., ICCV 2021, section 3.1, and the published code.
    """

    STRIDE = 16

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        w = width
        self.encoder = Encoder(3, (w, 2 * w, 4 * w, 8 * w, 8 * w))
        self.decoder = nn.Sequential(
            _decoder_stage(8 * w, 4 * w),
            _decoder_stage(4 * w, 2 * w),
            _decoder_stage(2 * w, w),
            _decoder_stage(w, w),
        )
        self.head = nn.Conv2d(w, 3, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Restore normal images.

        Args:
            images: (batch, 3, height, width) RGB in [0, 1]; sides divisible by 16.

        Returns:
            (batch, 3, height, width), unbounded, trained towards [0, 1].
        """
        features = self.encoder(images)[-1]  # (batch, 8w, height / 16, width / 16)
        for stage in self.decoder:
            features = self.checkpointed(stage, features)
        restored: Tensor = self.head(features)
        return restored


def _decoder_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        UpBlock(in_channels, in_channels),
        conv_stage(in_channels, in_channels, out_channels),
    )
