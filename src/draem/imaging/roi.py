"""The region of interest: which part of the images is inspected."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from draem.config import LARGEST_AREA
from draem.errors import ImageError, InputError, ModelFileError
from draem.imaging.decode import read_size
from draem.imaging.mask import read_mask
from draem.imaging.resize import resize_image

RoiLike = str | Path | NDArray[np.bool_]
"""A mask file, white where to inspect, or (height, width) bool."""
Polygon = Sequence[tuple[float, float]]
_PROPORTIONS = 0.02


def fit_roi(given: RoiLike, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Bring a region of interest to the network's size.

    Args:
        given: A mask of the images' proportions; of a file, levels of 128 and more of 255 count.
        size: Height and width of the network's input.

    Returns:
        (height, width) bool, True where to inspect.

    Raises:
        ImageError: The file cannot be read as a mask; see `read_mask`.
        InputError: The array is no mask, or there is nothing to inspect.
    """
    if isinstance(given, str | Path):
        levels, path = read_mask(given), given
    elif given.ndim == 2 and given.dtype == np.bool_ and given.size:
        levels, path = given * np.uint8(255), None
    else:
        raise InputError(
            "the region of interest is no mask",
            expected="a NumPy array of bool, (height, width), True where to inspect",
            found=f"{given.dtype} {given.shape}",
        )
    return nonempty_roi(resize_image(levels, size, "area") >= 128, path)


def nonempty_roi(inside: NDArray[np.bool_], path: str | Path | None = None) -> NDArray[np.bool_]:
    """A region of interest as it is, once it is known to hold something.

    Raises:
        InputError: There is nothing to inspect.
    """
    if not inside.any():
        raise InputError(
            "the region of interest is empty: there is nothing to inspect",
            path=path,
            expected="white or polygons where to inspect, wide enough to be seen at "
            f"{_written(inside.shape)} pixels (width x height), the network's input",
        )
    return inside


def draw_polygons(polygons: Iterable[Polygon], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres are inside at least one polygon.

    Args:
        polygons: Corners (x, y) in shares of the width and the height. Where a polygon's line
            crosses itself, what it goes round twice is outside.
        size: Height and width in pixels.

    Returns:
        (height, width) bool.
    """
    height, width = size
    drawn = np.zeros(size, bool)
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    for polygon in polygons:
        inside = np.zeros(size, bool)
        corners = np.asarray(polygon, np.float64) * (width, height)
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            # A pixel is inside where a ray to its right crosses an odd number of edges.
            crossed = (y1 <= rows) != (y2 <= rows)
            if crossed.any():
                places = x1 + (rows[crossed] - y1) / (y2 - y1) * (x2 - x1)
                inside[crossed] ^= columns < places[:, None]
        drawn |= inside
    return drawn


def check_roi_file(mask: str | Path, images: Iterable[Path]) -> None:
    """Refuse a mask file that is one of the images, or has other proportions, give or take 2 %.

    Images that cannot be read are passed over.

    Raises:
        ImageError: The mask cannot be read.
        InputError: It is an image, or has other proportions; the first such image is named.
    """
    height, width = read_size(mask)
    place = Path(mask).resolve()
    for path in images:
        if path.resolve() == place:
            raise InputError(
                "the mask of the region of interest is among the images",
                path=mask,
                hint="Move it out of their folder, where it would be taken for one of them",
            )
        with contextlib.suppress(ImageError):
            size = read_size(path)
            if abs(height * size[1] / (width * size[0]) - 1) > _PROPORTIONS:
                raise InputError(
                    "the region of interest has other proportions than the images",
                    path=mask,
                    expected=f"those of {path}, {_written(size)} (width x height)",
                    found=_written((height, width)),
                )


def limit_map(maps: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Maps, (..., height, width), with 0 outside the region of interest."""
    return np.where(inside, maps, np.float32(0))


def roi_at(inside: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The region of interest in an image of another size.

    Args:
        inside: (height, width) bool.
        size: Height and width of the image in pixels.
    """
    return resize_image(inside * np.uint8(255), size, "bilinear") >= 128


def encode_roi(inside: NDArray[np.bool_]) -> str:
    """A region of interest as text: a PNG picture of one bit per pixel, in base64.

    Example:
        >>> len(encode_roi(np.eye(256, dtype=bool))) < 1000
        True
    """
    buffer = io.BytesIO()
    Image.fromarray(inside).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def decode_roi(text: str) -> NDArray[np.bool_]:
    """What `encode_roi` was given.

    Raises:
        ModelFileError: The text is damaged.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as read:
            if read.width * read.height > LARGEST_AREA:
                raise ValueError("larger than the images of any network")
            return np.array(read.convert("1"), dtype=bool)
    except Exception as error:  # damaged data makes Pillow raise almost anything
        raise ModelFileError(
            "the model's region of interest is damaged",
            expected="a PNG picture in base64",
            hint="Copy the file again from where it was made",
        ) from error


def _written(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
