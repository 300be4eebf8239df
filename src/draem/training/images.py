"""The images of a run: decoded once, some held out, and the textures."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.config import Recipe, ResolvedRecipe
from draem.datasets.decoding import Preparation, decode_to_memory, preparation_of
from draem.datasets.groups import group_images, told_groups
from draem.datasets.image_cache import Cache, Progress, decode_to_files
from draem.datasets.image_source import ImageSource, fingerprint
from draem.datasets.layouts.category import Category
from draem.datasets.layouts.registry import as_category
from draem.datasets.likeness import Look, look_at, warn_of_dark_or_flat
from draem.datasets.split import train_held_out_split
from draem.errors import ImageError
from draem.imaging.decode import read_size
from draem.imaging.roi import check_roi_file, draw_polygons, fit_roi, nonempty_roi
from draem.imaging.tiles import TileGrid, join_tiles
from draem.simulation.factory import texture_size
from draem.simulation.textures import read_textures


@dataclass(frozen=True, slots=True)
class RunImages:
    """Everything that is decoded for a run, at the network's size.

    Attributes:
        training: Images to learn from; tiles in a tiled run, and so below.
        held_out: Images for validation and calibration; there may be none.
        textures: The anomaly sources.
        region_of_interest: (height, width) bool, True where to inspect; None for everything.
        fingerprint: Hash of the training images.
        full_fingerprint: Hash of all of it, which a resumed run must find unchanged.
        count: Images to learn from, before they were cut into tiles.
        groups: (count,) int64, the group of each image to learn from, before it was cut into tiles:
            images of one group show one part.
        held_out_groups: (held-out images,) int64, the same of the held-out ones, before they were
            cut into tiles; no group is on both sides.
        grouping: The groups in words; empty if each image is one.
        tiles: (count,) int64, how many tiles each image to learn from was cut into; 1 without.
        held_out_grids: How each held-out image was cut; empty in a run without tiles.
    """

    training: ImageSource
    held_out: ImageSource
    textures: ImageSource
    region_of_interest: NDArray[np.bool_] | None
    fingerprint: str
    full_fingerprint: str
    count: int
    groups: NDArray[np.int64]
    held_out_groups: NDArray[np.int64]
    grouping: str
    tiles: NDArray[np.int64]
    held_out_grids: tuple[TileGrid, ...] = ()

    def whole_held_out(self) -> Iterator[NDArray[np.uint8]]:
        """The held-out images; those of a tiled run are put together again.

        Yields:
            (height, width, 3) uint8 RGB: of the image's own size in a tiled run, otherwise of the
            network's.
        """
        images = iter(self.held_out)
        if not self.held_out_grids:
            yield from images
        for grid in self.held_out_grids:
            yield join_tiles(itertools.islice(images, grid.count), grid)


def read_run_images(
    data: str | Path | Category,
    recipe: ResolvedRecipe,
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> RunImages:
    """Decode the normal images and the textures of a run.

    Args:
        data: One category of a data set, or any folder of normal images.
        recipe: Says sizes, textures, seed, which images show one part and how many are held out.
        progress: Called with (what is read, files done, files in all).
        cache: Whether and where images are stored on the disk; in memory if omitted.

    Raises:
        DatasetError: There are no normal images, or some cannot be read, and all are listed; or
            they cannot be grouped as the recipe asks, or not split.
        TextureError: The textures folder holds no textures.
        InputError: The region of interest cannot be used.
        MissingDependencyError: The built-in textures need scikit-image.
        OutOfMemoryError: The images do not fit in memory.
        OutputError: The images cannot be stored on the disk.
    """
    report: Progress = progress or (lambda *_: None)
    paths = as_category(data).normal_images(log=True)
    region = read_roi(recipe, paths)
    options, network, simulation = recipe.training, recipe.network, recipe.simulation
    preparation = preparation_of(paths, network.image_size, network.overlap, network.interpolation)
    if cache is not None and cache.takes(preparation.nbytes):
        images = decode_to_files(paths, preparation, cache, report)
    else:
        images = decode_to_memory(paths, preparation, partial(report, "Reading images"))
    looks = looks_at(images, preparation)
    warn_of_dark_or_flat(looks)
    groups = group_images(paths, looks, options.group_by)
    held_out, kept = train_held_out_split(groups.ids, options.held_out_share, options.seed)
    # Images are held out, never tiles of them.
    images = images.reorder(_rows(preparation, np.concatenate([kept, held_out])))
    border = sum(preparation.counts[place] for place in kept)
    training, others = images.part(0, border), images.part(border, len(images))
    size = texture_size(simulation.profile, network.image_size)
    textures = read_textures(
        simulation.textures,
        size,
        partial(report, "Reading textures"),
        simulation.texture_interpolation,
    )
    fingerprints = [part.fingerprint() for part in (training, others, textures)]
    if region is not None:
        fingerprints.append(fingerprint(region.astype(np.uint8)))
    return RunImages(
        training=training,
        held_out=others,
        textures=textures,
        region_of_interest=region,
        fingerprint=fingerprints[0],
        full_fingerprint="-".join(fingerprints),
        count=len(kept),
        groups=groups.ids[kept],
        held_out_groups=groups.ids[held_out],
        grouping=told_groups(groups),
        tiles=np.array([preparation.counts[place] for place in kept], np.int64),
        held_out_grids=tuple(preparation.grids[i] for i in held_out) if preparation.grids else (),
    )


def looks_at(images: ImageSource, preparation: Preparation) -> list[Look]:
    """`look_at` of each image file, in the order of the files; tiles are put together again."""
    if not preparation.grids:
        return [look_at(image) for image in images]
    tiles = iter(images)
    return [
        look_at(join_tiles(itertools.islice(tiles, grid.count), grid)) for grid in preparation.grids
    ]


def _rows(preparation: Preparation, files: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the images, or tiles, that come from the files in this order."""
    counts = np.asarray(preparation.counts, np.int64)
    starts = np.cumsum(counts) - counts
    return np.concatenate([np.arange(starts[i], starts[i] + counts[i]) for i in files])


def read_roi(recipe: ResolvedRecipe, images: Iterable[Path]) -> NDArray[np.bool_] | None:
    """The recipe's region of interest at the network's size.

    Args:
        recipe: With a mask, polygons or neither.
        images: Whose proportions a mask must have.

    Returns:
        (height, width) bool, True where to inspect; None for everything.

    Raises:
        ImageError: The mask cannot be read.
        InputError: It has other proportions than an image, or there is nothing to inspect.
    """
    section, size = recipe.region_of_interest, recipe.network.image_size
    if section.mask is not None:
        check_roi_file(section.mask, images)
        inside = fit_roi(section.mask, size)
    elif section.polygons is not None:
        inside = nonempty_roi(draw_polygons(section.polygons, size))
    else:
        return None
    return None if inside.all() else inside


def resolve_recipe(recipe: Recipe, data: str | Path | Category) -> ResolvedRecipe:
    """Settle every `auto` of a recipe for the normal images in a folder.

    Raises:
        DatasetError: There are no normal images.
    """
    if recipe.network.image_size != "auto":
        return recipe.resolve()
    sizes = []
    for path in as_category(data).normal_images():
        # Images that cannot be read are listed, all of them, when they are decoded.
        with contextlib.suppress(ImageError):
            sizes.append(read_size(path))
    return recipe.resolve(sizes)
