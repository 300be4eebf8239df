"""Short ways to say what many tests need."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from draem.config import ResolvedNetworkConfig
from draem.datasets.image_source import ImageSource, in_memory
from draem.inspection.regions import Region, find_regions
from draem.inspection.scoring import anomaly_score, filter_side, mean_filter
from draem.model_card import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

    from draem.networks.model import Draem


def network_config(
    reconstructive_width: int = 4,
    discriminative_width: int = 4,
    architecture: str = "published",
    scales: int = 1,
    **options: Any,
) -> ResolvedNetworkConfig:
    """The options of a network, small ones by default."""
    return ResolvedNetworkConfig(
        reconstructive_width=reconstructive_width,
        discriminative_width=discriminative_width,
        architecture=architecture,
        scales=scales,
        **options,
    )


def small_draem(*widths_and_more: Any, seed: int = 0) -> Draem:
    """A freshly initialised model; arguments as of `network_config`."""
    from draem.networks.model import build_draem

    return build_draem(network_config(*widths_and_more), seed=seed)


def model_card(**facts: Any) -> ModelCard:
    """A model card; options of the network stand among the other facts."""
    options = {
        key: facts.pop(key) for key in tuple(facts) if key in ResolvedNetworkConfig.model_fields
    }
    return ModelCard(**{"preset": "compact", "network": network_config(**options), **facts})


def source(images: Tensor | ImageSource) -> ImageSource:
    """Images in memory, (images, 3, height, width) uint8, as a simulator takes them."""
    return images if isinstance(images, ImageSource) else in_memory(images.contiguous().numpy())


def smoothed(plane: NDArray[np.float32], smoothing: float = 21) -> NDArray[np.float32]:
    """A map under the mean filter that is so large at 256 pixels."""
    return mean_filter(plane, filter_side(*plane.shape, smoothing))


def score_of(plane: NDArray[np.float32], smoothing: float = 21) -> float:
    """The score of a map under the mean filter that is so large at 256 pixels."""
    return anomaly_score(plane, filter_side(*plane.shape, smoothing))


def regions_of(
    plane: NDArray[np.float32],
    threshold: float,
    size: tuple[int, int],
    smoothing: float = 21,
    **options: Any,
) -> tuple[Region, ...]:
    """The regions of a map under the mean filter that is so large at 256 pixels."""
    side = filter_side(*plane.shape, smoothing)
    return find_regions(plane, threshold, size, mean_filter(plane, side), side, **options)


def pixel_grid(height: int, width: int, degrees: Tensor, **options: Any) -> Tensor:
    """Where each pixel of a rotated picture looks in the picture that was not rotated.

    Args:
        height: Rows.
        width: Columns.
        degrees: (batch,) rotation about the picture's centre, anticlockwise.
        options: `dtype` of the result.

    Returns:
        (2, batch, height, width): rows and columns in pixels, pixel centres at whole numbers.
    """
    from draem.simulation.perlin import rotated_axes

    down, right = rotated_axes(height, width, degrees, **options)
    middle = down.new_tensor([(height - 1) / 2, (width - 1) / 2])
    return (down + right).add_(middle.view(2, 1, 1, 1))


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


def zip_pickle(path: Path, attack: object) -> None:
    """Pickle as torch does it now."""
    import torch

    torch.save(attack, path)


def legacy_pickle(path: Path, attack: object) -> None:
    """Pickle as torch did it once."""
    import torch

    torch.save(attack, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path, attack: object) -> None:
    """Pickle without torch."""
    path.write_bytes(pickle.dumps(attack))
