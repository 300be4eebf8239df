"""Simulated anomalies over one's own images, to see what the network will see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draem.config import PROFILES, ProfileName, ResolvedSimulationConfig
from draem.datasets.decoding import decode_to_memory, preparation_of
from draem.datasets.layouts.category import Category
from draem.datasets.layouts.registry import as_category
from draem.errors import RecipeError
from draem.imaging.contact_sheet import contact_sheet
from draem.imaging.roi import RoiLike, fit_roi
from draem.networks.joint import check_image_size
from draem.simulation.factory import make_simulator, texture_size
from draem.simulation.simulator import SimulatedBatch
from draem.simulation.textures import read_textures


def simulate(
    data: str | Path | Category,
    *,
    samples: int = 8,
    profile: ProfileName | ResolvedSimulationConfig = "upstream",
    textures: str | Path | None = None,
    image_size: int | tuple[int, int] = 256,
    tile_overlap: int | None = None,
    seed: int = 0,
    region_of_interest: RoiLike | None = None,
) -> SimulatedBatch:
    """Simulate anomalies over the first images of a folder.

    Args:
        data: One category of a data set, or any folder of normal images.
        samples: How many, at least 1; at most so many images are read.
        profile: `paper`, `upstream`, `varied`, or settings of your own.
        textures: Folder of anomaly sources; the built-in ones if omitted.
        image_size: Height and width to work at, or the side of a square.
        tile_overlap: Cut images into tiles of this size, which overlap by so many pixels, instead
            of resizing them.
        seed: The same seed gives the same samples.
        region_of_interest: Where anomalies may be: a mask of the images' proportions, as a file,
            white there, or as (height, width) bool; everywhere if omitted.

    Raises:
        ImageError: The mask cannot be read.
        InputError: There is nothing in the region of interest.
        DatasetError: There are no normal images, or some cannot be read.
        ImageSizeError: The image size does not suit the network.
        TextureError: The textures folder holds no textures.
        RecipeError: The profile is unknown, or no samples are asked for.
    """
    if isinstance(profile, str):
        if profile not in PROFILES:
            raise RecipeError(
                f"there is no simulation profile `{profile}`",
                expected="one of " + ", ".join(PROFILES),
            )
        profile = PROFILES[profile]
    if samples < 1:
        raise RecipeError(
            "too few samples are asked for", expected="at least 1", found=str(samples)
        )
    if isinstance(image_size, int):
        image_size = image_size, image_size
    check_image_size(*image_size)
    paths = as_category(data).normal_images(log=True)[:samples]
    images = decode_to_memory(paths, preparation_of(paths, image_size, tile_overlap, "area"))
    size = texture_size(profile.profile, image_size)
    sources = read_textures(textures, size, interpolation=profile.texture_interpolation)
    region = fit_roi(region_of_interest, image_size) if region_of_interest is not None else None
    simulator = make_simulator(
        images,
        sources,
        profile,
        seed,
        None if region is None else torch.from_numpy(region),
    )
    return simulator.batch(0, samples)


def simulation_sheet(batch: SimulatedBatch, title: str) -> NDArray[np.uint8]:
    """A picture sheet of simulated samples as the network sees them.

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
    """Make uint8 pictures of a tensor.

    Args:
        images: (batch, channels, height, width) in [0, 1]; values outside are clipped.

    Returns:
        (batch, height, width, channels) uint8.
    """
    pixels = (images.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.asarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
