"""The anomaly map in NumPy, written so that no exponential overflows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def anomaly_maps(mask_logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The softmax probability of the anomalous class.

    Args:
        mask_logits: (batch, 2, height, width) float32.

    Returns:
        (batch, height, width) float32 in [0, 1].
    """
    with np.errstate(over="ignore"):
        difference = mask_logits[:, 1] - mask_logits[:, 0]  # (batch, height, width)
    # Written with the exponential of a number that is never positive, which cannot overflow.
    small = np.exp(-np.abs(difference))
    maps = np.where(difference >= 0, 1 / (1 + small), small / (1 + small))
    return np.asarray(maps, dtype=np.float32)
