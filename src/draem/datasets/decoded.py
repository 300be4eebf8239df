"""Sets of images, decoded once into one array."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.errors import DatasetError, ImageError, OutOfMemoryError, list_problems
from draem.imaging.decode import decode_image, read_size
from draem.imaging.resize import Interpolation, resize_image
from draem.imaging.tiles import TileGrid, cut_tiles, plan_tiles

_MAX_THREADS = 8
_MEMORY = Path("/proc/meminfo")


def decode_images(
    paths: Sequence[Path],
    size: tuple[int, int],
    interpolation: Interpolation,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Decode image files and bring each to one size, several at once.

    Beside the result, memory holds no more full-size images than there are threads.

    Args:
        paths: The files.
        size: Height and width of every image in the result, in pixels.
        interpolation: How images are resized; see `resize_image`.
        progress: Called after each image with the number done and the number of all.

    Returns:
        RGB pixels, (N, H, W, 3), uint8, in the order of `paths`.

    Raises:
        DatasetError: Some images cannot be read; all of them are listed.
    """
    images = np.empty((len(paths), *size, 3), dtype=np.uint8)

    def take(index: int, image: NDArray[np.uint8]) -> None:
        images[index] = resize_image(image, size, interpolation)

    _decode_each(paths, take, progress)
    return images


def decode_tiles(
    paths: Sequence[Path],
    tile_size: tuple[int, int],
    overlap: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.uint8], list[TileGrid]]:
    """Decode image files of any sizes and cut each into tiles at its own resolution.

    Args:
        paths: The files.
        tile_size: Height and width of a tile in pixels.
        overlap: Of neighbouring tiles, in pixels.
        progress: Called after each image with the number done and the number of all.

    Returns:
        RGB pixels, (tiles, height, width, 3), uint8, image by image and each in reading order; and
        how each image was cut.

    Raises:
        DatasetError: Some images cannot be read; all of them are listed.
        OutOfMemoryError: The tiles would take more memory than there is.
    """
    grids = [plan_tiles(_size_of(path), tile_size, overlap) for path in paths]
    ends = np.cumsum([grid.count for grid in grids], dtype=np.int64)
    count = int(ends[-1]) if len(ends) else 0
    _check_memory(count, tile_size)
    tiles = np.empty((count, *tile_size, 3), dtype=np.uint8)

    def take(index: int, image: NDArray[np.uint8]) -> None:
        start = int(ends[index]) - grids[index].count
        for number, tile in enumerate(cut_tiles(image, grids[index]), start):
            tiles[number] = tile

    _decode_each(paths, take, progress)
    return tiles, grids


def _size_of(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    except ImageError:
        return 1, 1  # listed with all others when it is decoded


def _check_memory(tiles: int, tile_size: tuple[int, int]) -> None:
    wanted, available = tiles * tile_size[0] * tile_size[1] * 3, _available_memory()
    if available is not None and wanted > available:
        raise OutOfMemoryError(
            f"the {tiles} tiles of these images do not fit in memory",
            expected=f"at most {available / 1e9:.1f} GB",
            found=f"{wanted / 1e9:.1f} GB",
            hint="Take fewer images, or let the tiles overlap by less",
        )


def _available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell."""
    try:
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _decode_each(
    paths: Sequence[Path],
    take: Callable[[int, NDArray[np.uint8]], None],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Decode files, several at once, and hand each image over with its place in the order."""

    def decode(index: int) -> ImageError | None:
        try:
            take(index, decode_image(paths[index]))
        except ImageError as error:
            return error
        return None

    problems: list[ImageError] = []
    pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
    try:
        for done, problem in enumerate(pool.map(decode, range(len(paths))), start=1):
            if problem is not None:
                problems.append(problem)
            if progress is not None:
                progress(done, len(paths))
    finally:
        # An interrupted user does not wait for the images that are left.
        pool.shutdown(cancel_futures=True)
    if problems:
        raise DatasetError(
            f"{len(problems)} of {len(paths)} images cannot be read; repair or remove them:\n"
            f"{list_problems(problems).rstrip('.')}"
        )


def fingerprint(images: NDArray[np.uint8]) -> str:
    """Tell one set of decoded images from another.

    Args:
        images: Pixels, (N, H, W, 3), uint8; their order counts.

    Returns:
        16 hexadecimal digits of the SHA-256 of shape and pixels.
    """
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()[:16]
