"""The pictures of a run: decoded once, some held out, textures beside them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draem.config import Recipe, ResolvedRecipe
from draem.datasets.cache import Cache, Pixels, Progress, cached_images, kept_fingerprint
from draem.datasets.decoded import decode_images, decode_tiles, fingerprint, plan_grids
from draem.datasets.layout import read_normal_images
from draem.datasets.rows import ImageRows
from draem.datasets.split import train_held_out_split
from draem.errors import ImageError
from draem.imaging.decode import read_size
from draem.imaging.resize import resize_image
from draem.imaging.roi import check_roi_file, draw_polygons, fit_roi, nonempty_roi
from draem.imaging.tiles import TileGrid, cut_tiles, join_tiles
from draem.simulation.pictures import Pictures, mapped_pictures
from draem.simulation.textures import builtin_textures, load_textures
from draem.simulation.varied import texture_size


@dataclass(frozen=True, slots=True)
class RunImages:
    """Everything that is decoded for a run, at the network's size.

    Attributes:
        training: (images, 3, height, width) uint8 RGB, to learn from; tiles in a tiled run, and so
            below. `Pictures` where they are kept on the disk.
        held_out: (images, height, width, 3) uint8 RGB, for validation and calibration; may be
            empty. `ImageRows` where they are kept on the disk.
        textures: (textures, 3, height, width) uint8 RGB, the anomaly sources.
        region_of_interest: (height, width) bool, True where to inspect; None for everything.
        fingerprint: Hash of the training images.
        full_fingerprint: Hash of all of it, which a resumed run must find unchanged.
        count: Images to learn from, whatever they were cut into.
        held_out_grids: How each held-out image was cut; empty in a run without tiles.
        cache: The folder on the disk where images are kept; None where they are in memory.
        cache_bytes: How much room they take there.
    """

    training: Tensor | Pictures
    held_out: NDArray[np.uint8] | ImageRows
    textures: Tensor
    region_of_interest: NDArray[np.bool_] | None
    fingerprint: str
    full_fingerprint: str
    count: int
    held_out_grids: tuple[TileGrid, ...] = ()
    cache: Path | None = None
    cache_bytes: int = 0

    def whole_held_out(self) -> Iterator[NDArray[np.uint8]]:
        """The held-out images of a tiled run, put together again.

        Yields:
            (height, width, 3) uint8 RGB of the image's own size.
        """
        tiles: Iterator[NDArray[np.uint8]] = iter(self.held_out)
        for grid in self.held_out_grids:
            yield join_tiles(itertools.islice(tiles, grid.count), grid)

    def held_out_pictures(self) -> Tensor | Pictures:
        """The held-out images as a simulator takes them."""
        return _as_pictures(self.held_out, copied=False)


def read_run_images(
    data: str | Path,
    recipe: ResolvedRecipe,
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> RunImages:
    """Decode the normal images and the textures of a run.

    Args:
        data: A category in MVTec layout, or any folder of normal images.
        recipe: Says sizes, textures, seed and how many images are held out.
        progress: Called with (what is read, files done, files in all).
        cache: Whether and where images are kept on the disk; in memory where left out.

    Raises:
        DatasetError: There are no normal images, or some cannot be read; all are listed.
        TextureError: The textures folder holds no textures.
        InputError: The region of interest cannot be used.
        MissingDependencyError: The built-in textures need scikit-image.
        OutOfMemoryError: The images do not fit in memory.
        OutputError: The images cannot be kept on the disk.
    """

    def report(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)

    def reading(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report(what, done, total)

    size = recipe.network.image_size
    paths = read_normal_images(data)
    region = read_roi(recipe, paths)
    held_out, kept = train_held_out_split(
        len(paths), recipe.training.held_out_share, recipe.training.seed
    )
    # Images are held out, never tiles of them.
    ordered = [paths[index] for index in (*kept, *held_out)]
    tiled = recipe.network.tile is not None
    grids = plan_grids(ordered, size, recipe.network.overlap or 0) if tiled else []
    pixels = _pixels(recipe, len(ordered), grids)
    images: NDArray[np.uint8] | ImageRows
    if cache is not None and cache.takes(pixels.nbytes):
        images = cached_images(ordered, Path(data), pixels, cache, report)
    elif tiled:
        images, _ = decode_tiles(
            ordered, size, recipe.network.overlap or 0, reading("Reading images")
        )
    else:
        interpolation = recipe.network.interpolation
        images = decode_images(ordered, size, interpolation, reading("Reading images"))
    border = sum(pixels.counts[: len(kept)])
    training, others = _split(images, border)
    folder = recipe.simulation.textures
    source_size = texture_size(recipe.simulation.profile, size)
    textures = (
        load_textures(Path(folder), source_size, reading("Reading textures"))
        if folder
        else builtin_textures(source_size)
    )
    parts = [kept_fingerprint(part) for part in (training, others, textures)]
    if region is not None:
        parts.append(fingerprint(region.astype(np.uint8)))
    return RunImages(
        training=_as_pictures(training, copied=not grids),
        held_out=others,
        textures=_channels_first(textures),
        region_of_interest=region,
        fingerprint=parts[0],
        full_fingerprint="-".join(parts),
        count=len(kept),
        held_out_grids=tuple(grids[len(kept) :]),
        cache=images.folder if isinstance(images, ImageRows) else None,
        cache_bytes=images.pixels.nbytes if isinstance(images, ImageRows) else 0,
    )


def _pixels(recipe: ResolvedRecipe, files: int, grids: list[TileGrid]) -> Pixels:
    """What becomes of each image file of a run."""
    size, network = recipe.network.image_size, recipe.network
    if grids:

        def cut(place: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return np.stack(list(cut_tiles(image, grids[place])))

        counts = [grid.count for grid in grids]
        return Pixels(size, counts, {"overlap": network.overlap or 0}, cut)

    def resize(_: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize_image(image, size, network.interpolation)[None]

    return Pixels(size, [1] * files, {"interpolation": network.interpolation}, resize)


def _split(
    images: NDArray[np.uint8] | ImageRows, border: int
) -> tuple[NDArray[np.uint8] | ImageRows, NDArray[np.uint8] | ImageRows]:
    if isinstance(images, ImageRows):
        return images.part(0, border), images.part(border, len(images))
    return images[:border], images[border:]


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


def resolve_recipe(recipe: Recipe, data: str | Path) -> ResolvedRecipe:
    """Settle every `auto` of a recipe for the normal images in a folder.

    Raises:
        DatasetError: There are no normal images.
    """
    if recipe.network.image_size != "auto":
        return recipe.resolve()
    sizes = []
    for path in read_normal_images(data):
        # Images that cannot be read are listed, all of them, when they are decoded.
        with contextlib.suppress(ImageError):
            sizes.append(read_size(path))
    return recipe.resolve(sizes)


def _as_pictures(images: NDArray[np.uint8] | ImageRows, *, copied: bool) -> Tensor | Pictures:
    if isinstance(images, ImageRows):
        return mapped_pictures(images.pixels, images.rows, images.folder)
    return _channels_first(images, copied=copied)


def _channels_first(images: NDArray[np.uint8], *, copied: bool = True) -> Tensor:
    moved = torch.from_numpy(images).permute(0, 3, 1, 2)
    # Tiles of large images take too much memory to have them twice.
    return moved.contiguous() if copied else moved
