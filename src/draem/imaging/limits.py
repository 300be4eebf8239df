"""How large an image may be and how long decoding it may take.

A small file can claim a huge picture or be made to decode for minutes. The limits belong to the
machine and not to a model, so they are read from the environment and reach every process.
"""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass

from draem.errors import InputError

MAX_PIXELS = 2**27
MAX_SECONDS = 30.0
MAX_FILE_BYTES = 2**31
"""Longest file that is read whole; TIFF files, which are not, may be longer."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one image may cost.

    Attributes:
        pixels: Most pixels of an image, `DRAEM_MAX_PIXELS`.
        seconds: Most processor time of decoding one, in seconds, `DRAEM_MAX_IMAGE_SECONDS`.
            Waiting for a disk, a network or other threads does not count.
    """

    pixels: int = MAX_PIXELS
    seconds: float = MAX_SECONDS


def image_limits() -> ImageLimits:
    """The limits that hold now.

    Raises:
        InputError: A variable of the environment holds something else than a positive number.
    """
    return ImageLimits(
        pixels=int(_positive("DRAEM_MAX_PIXELS", MAX_PIXELS)),
        seconds=_positive("DRAEM_MAX_IMAGE_SECONDS", MAX_SECONDS),
    )


def _positive(name: str, default: float) -> float:
    stated = os.environ.get(name)
    if not stated:
        return default
    try:
        number = float(stated)
    except ValueError:
        number = 0.0
    if not 1e-3 <= number <= 1e12:
        raise InputError(
            f"the environment variable {name} is no positive number",
            found=repr(stated),
            hint=f"Unset it for the default of {default:.0f}",
        )
    return number


class TooSlowError(Exception):
    """Decoding took more processor time than it may."""


class TimedBytes(io.BytesIO):
    """A file in memory that stops being read when its time is over.

    Pillow reads while it decodes, so a decoder is stopped between two reads. The clock counts the
    processor time of the thread: a busy machine does not make an image too slow.

    Args:
        data: The file's bytes.
        seconds: Processor time until reading fails.
    """

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        self._end = time.thread_time() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does.

        Raises:
            TooSlowError: The time is over.
        """
        if time.thread_time() > self._end:
            raise TooSlowError
        return super().read(size)
