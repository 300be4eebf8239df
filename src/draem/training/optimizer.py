"""The optimisers."""

from __future__ import annotations

import torch
from torch import Tensor

from draem.networks.model import Draem


def make_optimizer(
    network: Draem, kind: str, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Adam as in the paper, or AdamW, which decays only the weights of convolutions.

    Args:
        network: Whose parameters are trained.
        kind: `adam` or `adamw`.
        learning_rate: At the start.
        weight_decay: Of `adamw`.
    """
    if kind == "adam":
        return torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter in network.parameters():
        groups[parameter.ndim > 1].append(parameter)
    decayed = {"params": groups[True], "weight_decay": weight_decay}
    others = {"params": groups[False], "weight_decay": 0.0}
    return torch.optim.AdamW([decayed, others], lr=learning_rate, fused=True)
