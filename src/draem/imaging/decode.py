"""The only decoder: an image file becomes the same pixels wherever draem reads it.

Pillow decodes, because OpenCV answers a truncated JPEG with a picture whose missing part is flat
grey, without an error, and a detector would report that part as a defect.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from draem.imaging.opening import opened
from draem.imaging.tiff_header import bits_per_channel

IMAGE_SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
DECODER_VERSION = 2
"""Counts up whenever a file comes out as other pixels, so that pixels kept on disk are not used."""

_STRIP_PIXELS = 2**17
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_image_path(path: str | Path) -> bool:
    """Whether a file's name ends like an image that draem reads.

    Examples:
        >>> is_image_path("part 7.PNG"), is_image_path("notes.txt")
        (True, False)
    """
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def decode_image(path: str | Path) -> NDArray[np.uint8]:
    """Decode an image file to RGB, upright by its EXIF orientation.

    Grey and palette images become RGB, transparency is ignored, 16-bit values are divided by 257
    and rounded (16-bit colour may come out one level lower), and of an animation the first picture
    counts.

    While it decodes, an image takes about 7 bytes of memory per pixel; progressive JPEG and BMP up
    to 12, WebP 16, and 4 more if it is turned.

    Args:
        path: A PNG, JPEG, BMP, TIFF, WebP, PGM, PPM or GIF file.

    Returns:
        RGB pixels, (H, W, 3), uint8.

    Raises:
        ImageError: The file is missing, not an image, damaged, truncated, smaller than `MIN_SIDE`
            a side, beyond `ImageLimits`, or a TIFF of a kind that draem does not read: of several
            pages, or of signed, floating-point or 32-bit values, for example.
    """
    with opened(Path(path)) as image:
        pixels = _decoded_pixels(image)
    if pixels.ndim == 3:
        return pixels.astype(np.uint8, copy=False)
    return np.repeat(_to_8_bit(pixels)[..., None], 3, axis=2)  # (H, W) -> (H, W, 3)


def decode_mask(path: str | Path) -> NDArray[np.uint8]:
    """Decode a mask to grey levels, 0 where normal and 255 where anomalous.

    A coloured mask counts by its brightest channel. Masks stored as 0 and 1, and 8-bit values
    stored in 16 bits, are recognised.

    Args:
        path: A PNG, JPEG, BMP, TIFF, WebP, PGM, PPM or GIF file.

    Returns:
        Grey levels, (H, W), uint8, 0 to 255.

    Raises:
        ImageError: As in `decode_image`.
    """
    with opened(Path(path)) as image:
        pixels = _decoded_pixels(image)
    levels = pixels.max(axis=2) if pixels.ndim == 3 else pixels  # (H, W)
    highest = int(levels.max())
    if highest == 1:
        return np.where(levels > 0, 255, 0).astype(np.uint8)
    return _to_8_bit(levels) if highest > 255 else levels.astype(np.uint8)


def decode_alpha(path: str | Path) -> NDArray[np.uint8] | None:
    """Decode how opaque a picture is, 255 where wholly so.

    Args:
        path: A PNG, JPEG, BMP, TIFF, WebP, PGM, PPM or GIF file.

    Returns:
        (H, W) uint8, or None if the file says nothing of it.

    Raises:
        ImageError: As in `decode_image`.
    """
    with opened(Path(path)) as image:
        if not image.has_transparency_data:
            return None
        image.load()
        method = _UPRIGHT.get(_orientation(image))
        upright = image if method is None else image.transpose(method)
        # Pillow has no direct way from "La" to "RGBA".
        clear = upright.convert("LA" if upright.mode == "La" else "RGBA")
        return np.array(clear.getchannel("A"), dtype=np.uint8)


def read_size(path: str | Path) -> tuple[int, int]:
    """Read an image's height and width, in pixels, as `decode_image` would give them.

    Only the file's header is read.

    Raises:
        ImageError: The file is missing, not an image, or its size is out of range.
    """
    with opened(Path(path), pixels=False) as image:
        width, height = image.size
        # Pillow has already turned the size of a TIFF.
        turned = image.format != "TIFF" and _orientation(image) >= 5
        return (width, height) if turned else (height, width)


def _decoded_pixels(image: Image.Image) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode to (H, W, 3) uint8, or (H, W) uint16 for 16-bit grey."""
    image.load()
    twelve = bits_per_channel(image) == 12
    method = _UPRIGHT.get(_orientation(image))
    if method is not None:
        image = image.transpose(method)
    if image.mode == "I":  # PGM of 16 bits, which Pillow has spread over them
        return np.array(image).astype(np.uint16)
    if image.mode.startswith("I;16"):
        levels = np.array(image).astype(np.uint16)
        return levels * 16 + levels // 256 if twelve else levels  # Pillow does not scale 12 bits
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):  # Pillow converts whole images with many copies
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_rgb(strip))
    return pixels


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")  # Pillow has no direct way to RGB
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(levels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if the EXIF block is missing or damaged."""
    try:
        # PNG's own getexif would decode the whole picture to look for a block behind it.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
