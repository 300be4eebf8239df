"""A picture sheet of simulated samples."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draem.imaging.contact_sheet import contact_sheet
from draem.simulation.simulator import SimulatedBatch


def simulation_sheet(batch: SimulatedBatch, title: str) -> NDArray[np.uint8]:
    """A sheet of simulated samples as the network sees them.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    images, simulated = to_pictures(batch.normal_images), to_pictures(batch.simulated_images)
    masks = to_pictures(batch.anomaly_mask)[..., 0]
    rows = [list(pictures) for pictures in zip(images, simulated, masks, strict=True)]
    names = [
        f"opacity {opacity:.2f}" if mask.any() else "stays normal"
        for opacity, mask in zip(batch.opacity.tolist(), masks, strict=True)
    ]
    return contact_sheet(rows, ("normal", "simulated", "mask"), row_titles=names, title=title)


def to_pictures(images: Tensor) -> NDArray[np.uint8]:
    """From the tensor world to the NumPy world.

    Args:
        images: (batch, channels, height, width) in [0, 1]; values outside are clipped.

    Returns:
        (batch, height, width, channels) uint8.
    """
    pixels = (images.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.asarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
