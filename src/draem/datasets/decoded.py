"""Sets of images, decoded once into one array."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.errors import DatasetError, ImageError, list_problems
from draem.imaging.decode import decode_image
from draem.imaging.resize import Interpolation, resize_image

_MAX_THREADS = 8


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

    def decode(index: int) -> ImageError | None:
        try:
            images[index] = resize_image(decode_image(paths[index]), size, interpolation)
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
    return images


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
