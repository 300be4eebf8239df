"""The only decoder: an image file becomes the same pixels wherever draem reads it.

Pillow decodes, because OpenCV answers a truncated JPEG with a picture whose missing part is flat
grey, without an error, and a detector would report that part as a defect.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from draem.errors import ImageError

IMAGE_SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
MIN_SIDE = 16
MAX_PIXELS = 2**28
DECODER_VERSION = 1
"""Counts up whenever a file comes out as other pixels, so that pixels kept on disk are not used."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")
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
    and rounded (16-bit colour may come out one level lower), and of several pages the first counts.

    Args:
        path: A PNG, JPEG, BMP, TIFF, WebP, PGM, PPM or GIF file.

    Returns:
        RGB pixels, (H, W, 3), uint8.

    Raises:
        ImageError: The file is missing, not an image, damaged, truncated, smaller than `MIN_SIDE`
            a side, larger than `MAX_PIXELS`, or holds floating-point or 32-bit values.
    """
    with _opened(Path(path)) as image:
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
    with _opened(Path(path)) as image:
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
    with _opened(Path(path)) as image:
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
    with _opened(Path(path)) as image:
        width, height = image.size
        # Pillow has already turned the size of a TIFF.
        turned = image.format != "TIFF" and _orientation(image) >= 5
        return (width, height) if turned else (height, width)


def _decoded_pixels(image: Image.Image) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode to (H, W, 3) uint8, or (H, W) uint16 for 16-bit grey."""
    image.load()
    method = _UPRIGHT.get(_orientation(image))
    if method is not None:
        image = image.transpose(method)
    if image.mode.startswith("I;16"):
        return np.array(image).astype(np.uint16)
    if image.mode == "La":
        image = image.convert("LA")  # Pillow has no direct way to RGB
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


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


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image with its header checked; whatever Pillow raises becomes an ImageError."""
    _check_file(path)
    with _PILLOW:
        try:
            # Given the path, Pillow would map the file; a file that shrinks ends the process then.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
                _check_header(path, image)
                yield image
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(
                "is not an image that draem can read",
                path=path,
                expected="a whole PNG, JPEG, BMP, TIFF, WebP, PGM, PPM or GIF file",
                hint="Remove it, or convert it to PNG",
            ) from error
        except Image.DecompressionBombError as error:
            raise _too_large(path, f"a header that claims more than {2 * MAX_PIXELS}") from error
        except MemoryError as error:
            raise ImageError(
                "does not fit in memory", path=path, hint="Cut it into smaller images"
            ) from error
        # Damaged data makes Pillow's format readers raise almost anything.
        except Exception as error:
            raise _unreadable(path, error) from error


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ImageError("does not exist", path=path, hint="Check the path") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("is a folder", path=path, expected="an image file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is not a regular file", path=path, expected="an image file")
    if status.st_size == 0:
        raise ImageError("is an empty file", path=path, hint="Copy or export it again")


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width}x{height} (width x height)")
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            "is too small",
            path=path,
            expected=f"at least {MIN_SIDE} pixels a side",
            found=f"{width}x{height} (width x height)",
        )
    if image.mode in ("F", "I"):
        raise ImageError(
            "holds floating-point or 32-bit values, whose range is not known",
            path=path,
            expected="8 or 16 bits a channel",
            hint="Convert it to 8 or 16 bits with one fixed scale for all images",
        )


def _too_large(path: Path, found: str) -> ImageError:
    return ImageError(
        "is too large",
        path=path,
        expected=f"at most {MAX_PIXELS} pixels",
        found=found,
        hint="Cut it into smaller images",
    )


def _unreadable(path: Path, error: Exception) -> ImageError:
    if isinstance(error, OSError) and error.strerror:
        return ImageError(f"cannot be read ({error.strerror})", path=path)
    return ImageError(
        f"is damaged or incomplete ({error})", path=path, hint="Copy or export it again"
    )


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


class _SharedSettings:
    """Pillow's size limit and warnings, set our way while any thread decodes.

    Both belong to the whole process. Threads that decode at once share one setting, and the last
    to finish restores what was there; each restoring for itself would leave another's behind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._settings = contextlib.ExitStack()
        if hasattr(os, "register_at_fork"):
            # Otherwise a process that is forked while another thread has the lock waits for ever.
            os.register_at_fork(
                before=self._lock.acquire,
                after_in_parent=self._lock.release,
                after_in_child=self._lock.release,
            )

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._settings.enter_context(_own_settings())
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._settings.close()


_PILLOW = _SharedSettings()
