"""Which of a training folder's images are kept from training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HELD_OUT_STREAM = 1


def train_held_out_split(
    count: int, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images are held out and which are trained on.

    Args:
        count: Images in all.
        share: To hold out, rounded; at least one image where the share is not 0, and at least one
            is always left to train on.
        seed: Decides which.

    Returns:
        Indices of the held-out images and of the others, each in rising order.
    """
    wanted = max(1, round(share * count)) if share else 0
    wanted = min(wanted, count - 1)
    order = np.random.default_rng([seed, _HELD_OUT_STREAM]).permutation(count)
    return np.sort(order[:wanted]), np.sort(order[wanted:])
