"""The whole way from a camera's pixels to the image score as one module, for exporters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from draem.inspection.runtime import ANOMALY_MAP, ANOMALY_SCORE, RECONSTRUCTION
from draem.inspection.torch_runtime import as_pixels, fold_batch_norm
from draem.inspection.torch_scoring import anomaly_maps, anomaly_scores
from draem.networks.joint import JointModel


class WholeGraph(nn.Module):
    """Scaling, both networks, softmax, smoothing and score.

    Args:
        model: The networks; changed in place: their batch normalisation is folded.
        side: Side of the score's mean filter in pixels.
        reconstruction: Give the reconstruction too.
    """

    def __init__(self, model: JointModel, side: int, *, reconstruction: bool = False) -> None:
        super().__init__()
        model.eval().requires_grad_(False)
        fold_batch_norm(model)
        self._model = model
        self._side = side
        self._reconstruction = reconstruction

    @property
    def output_names(self) -> list[str]:
        """What the outputs are called, in order."""
        return [ANOMALY_MAP, ANOMALY_SCORE] + [RECONSTRUCTION] * self._reconstruction

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Inspect a batch.

        Args:
            images: (batch, height, width, 3) uint8 RGB at the model's input size.

        Returns:
            Anomaly maps (batch, height, width) float32, scores (batch,) float32 and, if asked
            for, reconstructions (batch, height, width, 3) uint8 RGB.
        """
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 255  # (batch, 3, height, width)
        output = self._model(pixels)
        maps = anomaly_maps(output.mask_logits)
        found = (maps[:, 0], anomaly_scores(maps, self._side))
        return (*found, as_pixels(output.reconstruction)) if self._reconstruction else found
