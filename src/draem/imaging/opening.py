"""Image files are opened in one place, with the checks that Pillow does not make."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from draem.errors import DraemError, ImageError
from draem.imaging import jpeg, png
from draem.imaging.limits import MAX_FILE_BYTES, ImageLimits, TimedBytes, TooSlowError, image_limits
from draem.imaging.tiff import check_jpeg_parts, check_tiff_content
from draem.imaging.tiff_header import read_tiff_content

MIN_SIDE = 16
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")
TOLD_FORMATS = "PNG, JPEG, BMP, TIFF, WebP, PGM, PPM or GIF"

_MOST_TEXT = 2**26
_BYTES_BETWEEN_CLOCKS = 2**14


@contextlib.contextmanager
def opened(path: Path, *, pixels: bool = True) -> Iterator[Image.Image]:
    """Open an image with its header checked; whatever Pillow raises becomes an ImageError.

    If its pixels are not wanted, no more than the header is read.
    """
    _check_file(path)
    limits = image_limits()
    with _PILLOW:
        try:
            with _source(path, limits, pixels) as file, Image.open(file, formats=FORMATS) as image:
                _check_header(path, image, limits)
                if isinstance(image, JpegImageFile):
                    # Many scans may be in few bytes.
                    image.decodermaxblock = _BYTES_BETWEEN_CLOCKS
                yield image
        except DraemError:
            raise
        except TooSlowError as error:
            raise _too_slow(path, limits) from error
        except UnidentifiedImageError as error:
            raise _unidentified(path) from error
        except Image.DecompressionBombError as error:
            found = f"a header that claims more than {2 * limits.pixels}"
            raise _too_large(path, found, limits) from error
        except MemoryError as error:
            raise ImageError(
                "does not fit in memory", path=path, hint="Cut it into smaller images"
            ) from error
        # Damaged data makes Pillow's format readers raise almost anything.
        except Exception as error:
            raise _unreadable(path, error) from error


@contextlib.contextmanager
def _source(path: Path, limits: ImageLimits, pixels: bool) -> Iterator[IO[bytes]]:
    """The file as Pillow is to read it, after checks that Pillow does not make."""
    # Given the path, Pillow would map the file; a file that shrinks ends the process then.
    with path.open("rb") as file:
        content = read_tiff_content(path, file)
        start = file.read(len(png.START))
        file.seek(0)
        if content is not None:
            check_tiff_content(path, content)
            width, height = content.tile
            if width * height > limits.pixels:  # a small picture may have one huge tile
                raise _too_large(path, f"tiles of {width}x{height} (width x height)", limits)
            if pixels:
                check_jpeg_parts(path, content, file)
            yield file
        elif start == png.START:
            yield TimedBytes(png.read_picture(file, pixels=pixels), limits.seconds)
        elif pixels:
            data = file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise _too_large(path, f"more than {MAX_FILE_BYTES} bytes", limits)
            if start.startswith(jpeg.START):
                data = _checked_jpeg(path, data)
            yield TimedBytes(data, limits.seconds)
        else:
            yield file


def _checked_jpeg(path: Path, data: bytes) -> bytes:
    layout = jpeg.read_jpeg_layout(data)
    if layout.scans > jpeg.MAX_SCANS:
        raise ImageError(
            "would take too long to decode",
            path=path,
            expected=f"a JPEG of at most {jpeg.MAX_SCANS} scans",
            found="more",
            hint="Save it again",
        )
    if not layout.in_order:
        raise ImageError(
            "is damaged or incomplete (a part of it is missing)",
            path=path,
            hint="Copy or export it again",
        )
    return jpeg.starving(data, layout)


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


def _check_header(path: Path, image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.pixels:
        raise _too_large(path, f"{width}x{height} (width x height)", limits)
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            "is too small",
            path=path,
            expected=f"at least {MIN_SIDE} pixels a side",
            found=f"{width}x{height} (width x height)",
        )
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise ImageError(
            "holds floating-point or 32-bit values, whose range is not known",
            path=path,
            expected="8 or 16 bits a channel",
            hint="Convert it to 8 or 16 bits with one fixed scale for all images",
        )


def _unidentified(path: Path) -> ImageError:
    with path.open("rb") as file:
        content = read_tiff_content(path, file)
    return ImageError(
        "is not an image that draem can read",
        path=path,
        expected=f"a whole {TOLD_FORMATS} file",
        found=None if content is None else f"a TIFF of {content}",
        hint="Remove it, or convert it to PNG",
    )


def _too_large(path: Path, found: str, limits: ImageLimits) -> ImageError:
    return ImageError(
        "is too large",
        path=path,
        expected=f"at most {limits.pixels} pixels",
        found=found,
        hint="Cut it into smaller images, or set the environment variable DRAEM_MAX_PIXELS",
    )


def _too_slow(path: Path, limits: ImageLimits) -> ImageError:
    return ImageError(
        "takes too long to decode",
        path=path,
        expected=f"at most {limits.seconds:g} s of processor time",
        hint="Save it again, or set the environment variable DRAEM_MAX_IMAGE_SECONDS",
    )


def _unreadable(path: Path, error: Exception) -> ImageError:
    if isinstance(error, OSError) and error.strerror:
        return ImageError(f"cannot be read ({error.strerror})", path=path)
    return ImageError(
        f"is damaged or incomplete ({error})", path=path, hint="Copy or export it again"
    )


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    limit, text = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    libtiff = TiffImagePlugin.READ_LIBTIFF
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        Image.MAX_IMAGE_PIXELS = image_limits().pixels
        PngImagePlugin.MAX_TEXT_CHUNK = _MOST_TEXT
        # Pillow's own reader takes 16-bit planes for 8-bit ones.
        TiffImagePlugin.READ_LIBTIFF = True
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = limit, text
            TiffImagePlugin.READ_LIBTIFF = libtiff


class _SharedSettings:
    """Pillow's limits, choices and warnings, set our way while any thread decodes.

    They belong to the whole process. Threads that decode at once share one setting, and the last
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
