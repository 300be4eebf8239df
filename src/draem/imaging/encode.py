"""Images as files and as text to embed in HTML."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from draem.files import write_bytes

_PNG_LEVEL = 1
"""A quarter of the time of the usual 6, for files that are a seventh to a third larger."""


def write_png(path: str | Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    """Write a PNG file, whole or not at all.

    Args:
        path: The file to write or replace.
        image: RGB (H, W, 3) or grey (H, W) uint8, or grey (H, W) uint16.

    Returns:
        The file's path.

    Raises:
        OutputError: The disk is full, the folder is missing or may not be written.
    """
    return write_bytes(path, encode_png(image))


def encode_png(image: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG file as bytes, of an image as `write_png` takes it."""
    return _encoded(image, "png", compress_level=_PNG_LEVEL)


def map_to_uint16(anomaly_map: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Turn an anomaly map in [0, 1], float32, into 0 to 65535, uint16, rounded.

    Examples:
        >>> map_to_uint16(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).tolist()
        [[0, 32768, 65535]]
    """
    levels = np.clip(anomaly_map, 0, 1)
    levels *= np.float32(65535)
    return np.rint(levels, out=levels).astype(np.uint16)


def to_data_uri(
    image: NDArray[np.uint8],
    format: Literal["png", "jpeg", "webp"] = "png",  # noqa: A002
    quality: int = 90,
) -> str:
    """Encode an image as a `data:` address, for HTML that needs no other file.

    Args:
        image: RGB (H, W, 3) or grey (H, W), uint8.
        format: PNG keeps every pixel; JPEG and WebP are smaller.
        quality: 1 to 100, for JPEG and WebP.

    Returns:
        The address, `data:image/...;base64,...`.
    """
    text = base64.b64encode(_encoded(image, format, quality=quality)).decode()
    return f"data:image/{format};base64,{text}"


def _encoded(
    image: NDArray[np.uint8] | NDArray[np.uint16], file_format: str, **options: int
) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, file_format, **options)
    return buffer.getvalue()
