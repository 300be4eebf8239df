"""The least time that a network's convolutions can take, by Winograd's algorithm and without.

Multiplications and additions are counted over the layers, and divided by the highest rate that this
machine showed, in a large product of matrices or in direct convolution. Winograd's transforms,
memory and everything else count as nothing.

Source:
    Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016: F(m, 3) takes
    (m + 2)^2 multiplications for the m^2 outputs of a 3x3 convolution, direct convolution 9 m^2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from draem.config import ResolvedNetworkConfig
from draem.networks.model import build_draem
from turns import Turn, timed

_SIDE = 2048
MATMUL_GFLOP = 2 * _SIDE**3 / 1e9
TILES = (2, 4, 6)


class Operations(NamedTuple):
    """GFLOP for one image by direct convolution, a multiplication and an addition counting as two.

    Attributes:
        winograd: Of the 3x3 convolutions with stride 1, which Winograd's algorithm can do.
        other: Of all others.
    """

    winograd: float
    other: float

    @property
    def total(self) -> float:
        """Of all convolutions."""
        return self.winograd + self.other


def count_operations(
    reconstructive_width: int, discriminative_width: int, architecture: str, scales: int, side: int
) -> Operations:
    """Count the operations of a network's convolutions for one square image."""
    counts = [0.0, 0.0]

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        direct = layer.kernel_size != (3, 3) or layer.stride != (1, 1)
        counts[direct] += 2 * output.numel() * layer.weight[0].numel() / 1e9

    config = ResolvedNetworkConfig(
        reconstructive_width=reconstructive_width,
        discriminative_width=discriminative_width,
        architecture=architecture,
        scales=scales,
    )
    model = build_draem(config).to("meta").eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    model(torch.empty(1, 3, side, side, device="meta"))
    return Operations(*counts)


def floors(operations: Operations, gflop_per_s: float) -> dict[str, float]:
    """The least milliseconds, by way of convolution: direct, and by tiles of 2, 4 and 6 outputs."""
    reductions = {"direct": 1.0} | {f"F({m},3)": 9 * m**2 / (m + 2) ** 2 for m in TILES}
    return {
        way: 1000 * (operations.winograd / reduction + operations.other) / gflop_per_s
        for way, reduction in reductions.items()
    }


def matmul() -> Turn:
    """A product of two large matrices in NumPy, on all cores, as a turn."""
    matrix = np.random.default_rng(0).random((_SIDE, _SIDE), np.float32)
    return timed(lambda: matrix @ matrix)
