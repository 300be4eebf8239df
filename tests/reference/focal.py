"""The focal loss written from its definition: one pixel at a time, in double precision."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def slow_focal(logits: NDArray[np.float32], mask: NDArray[np.float32], gamma: float = 2.0) -> float:
    """The mean over all pixels of (batch, 2, rows, columns) against (batch, 1, rows, columns)."""
    losses = []
    for number, row, column in np.ndindex(logits.shape[0], *logits.shape[2:]):
        normal, anomalous = (math.exp(float(x)) for x in logits[number, :, row, column])
        true = anomalous if mask[number, 0, row, column] else normal
        p = true / (normal + anomalous)
        losses.append(-((1 - p) ** gamma) * math.log(p))
    return sum(losses) / len(losses)
