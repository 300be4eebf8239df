"""The anomaly map and the image score in torch; a contract test holds them to `scoring`."""

from __future__ import annotations

import torch
from torch import Tensor


def anomaly_maps(mask_logits: Tensor) -> Tensor:
    """The softmax probability of the anomalous class.

    Args:
        mask_logits: (batch, 2, height, width).

    Returns:
        (batch, 1, height, width) float32 in [0, 1].
    """
    return torch.softmax(mask_logits.float(), dim=1)[:, 1:]


def anomaly_scores(maps: Tensor, side: int) -> Tensor:
    """The image scores: the maximum of each mean-filtered map.

    Args:
        maps: (batch, 1, height, width) in [0, 1].
        side: Side of the filter in pixels; see `scoring.filter_side`.

    Returns:
        (batch,) in [0, 1].
    """
    smoothed = torch.nn.functional.avg_pool2d(maps, side, stride=1, padding=side // 2)
    return smoothed.amax(dim=(1, 2, 3))
