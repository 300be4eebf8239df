from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def pictures() -> dict[str, Pixels]:
    """Pictures (38, 53, 3) of every kind that trips point operations up."""
    rng = np.random.default_rng(7)
    shape = (38, 53, 3)
    ramp = np.linspace(30, 200, 53).astype(np.uint8)
    return {
        "random": rng.integers(0, 256, shape, dtype=np.uint8),
        "low contrast": rng.normal((90, 120, 200), 4, shape).clip(0, 255).astype(np.uint8),
        "ramp": np.broadcast_to(ramp[None, :, None], shape).copy(),
        "two values": rng.choice(np.array([17, 203], np.uint8), shape),
        "black": np.zeros(shape, np.uint8),
        "grey": np.full(shape, 131, np.uint8),
        "white": np.full(shape, 255, np.uint8),
    }


@pytest.fixture(scope="session")
def batch(pictures: dict[str, Pixels]) -> Tensor:
    """The same pictures as one (7, 3, 38, 53) uint8 batch."""
    stacked = np.stack(list(pictures.values()))
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
