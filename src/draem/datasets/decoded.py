"""Sets of images, decoded once into one array."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.datasets.rows import ImageRows
from draem.datasets.threads import in_threads
from draem.errors import DatasetError, ImageError, OutOfMemoryError, counted, list_problems
from draem.imaging.decode import decode_image, read_size
from draem.imaging.resize import Interpolation, resize_image
from draem.imaging.tiles import TileGrid, cut_tiles, plan_tiles

_MAX_THREADS = 8
_PART = 16
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
        OutOfMemoryError: The images would take more memory than there is.
    """
    _check_memory(counted(len(paths), "image"), len(paths), size)
    images = np.empty((len(paths), *size, 3), dtype=np.uint8)

    def take(index: int, image: NDArray[np.uint8]) -> None:
        images[index] = resize_image(image, size, interpolation)

    decode_each(paths, take, progress)
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
    grids = plan_grids(paths, tile_size, overlap)
    ends = np.cumsum([grid.count for grid in grids], dtype=np.int64)
    count = int(ends[-1]) if len(ends) else 0
    _check_memory(f"{count} tiles of these images", count, tile_size)
    tiles = np.empty((count, *tile_size, 3), dtype=np.uint8)

    def take(index: int, image: NDArray[np.uint8]) -> None:
        start = int(ends[index]) - grids[index].count
        for number, tile in enumerate(cut_tiles(image, grids[index]), start):
            tiles[number] = tile

    decode_each(paths, take, progress)
    return tiles, grids


def plan_grids(paths: Sequence[Path], tile_size: tuple[int, int], overlap: int) -> list[TileGrid]:
    """How image files are cut into tiles, by their headers; arguments as of `decode_tiles`."""
    return [plan_tiles(_size_of(path), tile_size, overlap) for path in paths]


def _size_of(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    except ImageError:
        return 1, 1  # listed with all others when it is decoded


def _check_memory(what: str, count: int, size: tuple[int, int]) -> None:
    wanted, available = count * size[0] * size[1] * 3, available_memory()
    if available is not None and wanted > available:
        raise OutOfMemoryError(
            f"the {what} do not fit in memory",
            expected=f"at most {available / 1e9:.1f} GB",
            found=f"{wanted / 1e9:.1f} GB",
            hint="Let `draem train` keep them on the disk with --cache auto, take fewer images, "
            "or let tiles overlap by less",
        )


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell."""
    try:
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def decode_each(
    paths: Sequence[Path],
    take: Callable[[int, NDArray[np.uint8]], None],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Decode files, several at once, and hand each image over with its place in the order.

    Args:
        paths: The files.
        take: Called in any thread and order with the place and the (height, width, 3) pixels.
        progress: Called after each image with the number done and the number of all.

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
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with in_threads(decode, range(len(paths)), threads) as results:
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


def fingerprint(images: NDArray[np.uint8] | ImageRows) -> str:
    """Tell one set of decoded images from another.

    Args:
        images: Pixels, (N, H, W, 3), uint8; their order counts.

    Returns:
        16 hexadecimal digits of the SHA-256 of shape and pixels.
    """
    parts = (images[start : start + _PART] for start in range(0, len(images), _PART))
    return _fingerprint(images.shape, parts)


def fingerprint_files(
    paths: Sequence[Path],
    decode: Callable[[Sequence[Path]], NDArray[np.uint8]],
    shape: tuple[int, int, int, int],
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """`fingerprint` of image files that are decoded a few at a time.

    Args:
        paths: The files.
        decode: Makes (images, height, width, 3) of some of them.
        shape: Of what it makes of all of them.
        progress: Called with the number of files done and of all.

    Raises:
        DatasetError: Some images cannot be read.
    """

    def parts() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(paths), _PART):
            yield decode(paths[start : start + _PART])
            if progress is not None:
                progress(min(start + _PART, len(paths)), len(paths))

    return _fingerprint(shape, parts())


def _fingerprint(shape: tuple[int, ...], parts: Iterable[NDArray[np.uint8]]) -> str:
    digest = hashlib.sha256(repr(shape).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]
