"""The anomaly map and the image score in torch; a contract test holds them to `scoring`."""

from __future__ import annotations

import torch
from torch import Tensor

from draem.inspection.scoring import SMOOTHING_AT_256, smoothing_size


def anomaly_maps(mask_logits: Tensor) -> Tensor:
    """The softmax probability of the anomalous class.

    Args:
        mask_logits: (batch, 2, height, width).

    Returns:
        (batch, 1, height, width) float32 in [0, 1].
    """
    return torch.softmax(mask_logits.float(), dim=1)[:, 1:]


def anomaly_scores(maps: Tensor, smoothing: int = SMOOTHING_AT_256) -> Tensor:
    """The image scores: the maximum of each mean-filtered map.

    Args:
        maps: (batch, 1, height, width) in [0, 1].
        smoothing: Side of the filter at 256 pixels.

    Returns:
        (batch,) in [0, 1].
    """
    side = smoothing_size(maps.shape[-2], maps.shape[-1], smoothing)
    smoothed = torch.nn.functional.avg_pool2d(maps, side, stride=1, padding=side // 2)
    return smoothed.amax(dim=(1, 2, 3))
