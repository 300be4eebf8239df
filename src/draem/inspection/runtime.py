"""What every runtime gives an Inspector."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class RuntimeOutput(NamedTuple):
    """What a model says of a batch.

    Attributes:
        anomaly_maps: (batch, height, width) float32 in [0, 1].
        anomaly_scores: (batch,) float32 in [0, 1].
        reconstructions: (batch, height, width, 3) uint8 RGB.
    """

    anomaly_maps: NDArray[np.float32]
    anomaly_scores: NDArray[np.float32]
    reconstructions: NDArray[np.uint8]


class Runtime(Protocol):
    """Runs a model on images of the network's size."""

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch.

        Args:
            images: (batch, height, width, 3) uint8 RGB at the model's input size.
        """
        ...
