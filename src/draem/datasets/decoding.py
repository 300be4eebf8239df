"""Image files become an `ImageSource`: in memory, or in one file per image in a cache folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.datasets.image_source import ImageSource, in_memory
from draem.datasets.memory import available_memory
from draem.datasets.parallel import in_threads
from draem.errors import DatasetError, ImageError, OutOfMemoryError, list_problems
from draem.imaging.decode import decode_image, read_size
from draem.imaging.resize import Interpolation, resize_image
from draem.imaging.tiles import TileGrid, cut_tiles, plan_tiles

Prepare = Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How image files become images of one size.

    Attributes:
        size: Height and width of the images in pixels.
        counts: Images per file.
        settings: All that decides their pixels besides the file and the size.
        prepare: Makes (count, height, width, 3) from a file's place in the order and its
            (height, width, 3) pixels; called in threads.
        what: What the images are, for messages.
        grids: How each file is cut; empty if none is.
    """

    size: tuple[int, int]
    counts: Sequence[int]
    settings: Mapping[str, str | int]
    prepare: Prepare
    what: str
    grids: tuple[TileGrid, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of images, 3, height and width."""
        return (sum(self.counts), 3, *self.size)

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return int(np.prod(self.shape))


def preparation_of(
    paths: Sequence[Path],
    size: tuple[int, int],
    overlap: int | None,
    interpolation: Interpolation = "bilinear",
) -> Preparation:
    """What becomes of image files: tiles if an overlap is given, otherwise they are resized.

    Args:
        paths: The files.
        size: Height and width of a tile or of the resized image in pixels.
        overlap: Overlap of neighbouring tiles in pixels; None to resize.
        interpolation: How images are resized.
    """
    if overlap is None:
        return resized(len(paths), size, interpolation)
    return tiled(plan_grids(paths, size, overlap), size, overlap)


def resized(files: int, size: tuple[int, int], interpolation: Interpolation) -> Preparation:
    """Each file becomes one image of the size."""

    def prepare(_: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize_image(image, size, interpolation)[None]

    settings = {"interpolation": interpolation}
    what = f"{files:,} image{'' if files == 1 else 's'}"
    return Preparation(size, [1] * files, settings, prepare, what)


def tiled(grids: Sequence[TileGrid], size: tuple[int, int], overlap: int) -> Preparation:
    """Each file becomes its tiles, in reading order."""

    def prepare(place: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.stack(list(cut_tiles(image, grids[place])))

    counts = [grid.count for grid in grids]
    what = f"{sum(counts)} tiles of these images"
    return Preparation(size, counts, {"overlap": overlap}, prepare, what, tuple(grids))


def plan_grids(paths: Sequence[Path], tile_size: tuple[int, int], overlap: int) -> list[TileGrid]:
    """How image files are cut into tiles, by their headers.

    Args:
        paths: The files.
        tile_size: Height and width of a tile in pixels.
        overlap: Overlap of neighbouring tiles in pixels.
    """
    return [plan_tiles(_size_of(path), tile_size, overlap) for path in paths]


def decode_to_memory(
    paths: Sequence[Path],
    preparation: Preparation,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSource:
    """Decode image files, several at once.

    Memory holds the result and at most as many full-size images as there are threads.

    Args:
        paths: The files.
        preparation: What becomes of them.
        progress: Called after each file with the number done and the number of all.

    Raises:
        DatasetError: Some images cannot be read; all of them are listed.
        OutOfMemoryError: The images need more memory than there is.
    """
    _check_memory(preparation)
    images = np.empty(preparation.shape, np.uint8)
    ends = np.cumsum(preparation.counts, dtype=np.int64)

    def take(place: int, image: NDArray[np.uint8]) -> None:
        start = int(ends[place]) - preparation.counts[place]
        prepared = preparation.prepare(place, image)
        images[start : int(ends[place])] = prepared.transpose(0, 3, 1, 2)

    decode_each(paths, take, progress)
    return in_memory(images)


def decode_each(
    paths: Sequence[Path],
    take: Callable[[int, NDArray[np.uint8]], None],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Decode files, several at once, and hand over each image with its place in the order.

    Args:
        paths: The files.
        take: Called in any thread and order with the place and the (height, width, 3) pixels.
        progress: Called after each file with the number done and the number of all.

    Raises:
        DatasetError: Some images cannot be read; all of them are listed.
    """

    def decode(index: int) -> ImageError | None:
        try:
            take(index, decode_image(paths[index]))
        except ImageError as error:
            return error
        return None

    problems: list[ImageError] = []
    with in_threads(decode, range(len(paths))) as results:
        for done, problem in enumerate(results, start=1):
            if problem is not None:
                problems.append(problem)
            if progress is not None:
                progress(done, len(paths))
    if problems:
        raise DatasetError(
            f"{len(problems)} of {len(paths)} images cannot be read; repair or remove them:\n"
            f"{list_problems(problems).rstrip('.')}"
        )


def _size_of(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    except ImageError:
        return 1, 1  # listed with all others when it is decoded


def _check_memory(preparation: Preparation) -> None:
    wanted, available = preparation.nbytes, available_memory()
    if available is not None and wanted > available:
        raise OutOfMemoryError(
            f"the {preparation.what} do not fit in memory",
            expected=f"at most {available / 1e9:.1f} GB",
            found=f"{wanted / 1e9:.1f} GB",
            hint="Let `draem train` keep them on the disk with --cache auto, take fewer images, "
            "or let tiles overlap by less",
        )
