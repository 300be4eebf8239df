"""Image and mask files."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from PIL import Image

from draem.imaging.decode import decode_image, read_size
from draem.imaging.mask import read_mask
from fuzz.harness import as_file, target

PNG = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 2**22
ABOUT_TAGS = (
    "TIFFFetchNormalTag",
    "_TIFFVSetField",
    "TIFFReadDirectory",
    "_TIFFCheckDirEntry",
    "  Value",
)

Image.init()


def seeds() -> Iterator[bytes]:
    """One small file of every kind that draem reads."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    pixels[8:16, 6:18] = (200, 30, 90, 255)
    picture = Image.fromarray(pixels[..., :3])
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield _encoded(picture.convert(mode), "PNG", compress_level=0)
    yield _encoded(picture.convert("P"), "PNG", transparency=bytes(range(200)), exif=exif)
    yield _encoded(picture, "PNG", icc_profile=bytes(300))
    yield _encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG")
    for mode in ("1", "L", "P", "RGB"):
        yield _encoded(picture.convert(mode), "BMP")
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}, {"exif": exif}):
        yield _encoded(picture, "JPEG", **options)
    yield _encoded(picture.convert("CMYK"), "JPEG")
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I"):
        yield _encoded(picture.convert(mode), "TIFF")
    for compression in ("tiff_lzw", "packbits", "tiff_deflate", "jpeg", "zstd"):
        yield _encoded(picture, "TIFF", compression=compression)
    for compression in ("group4", "lzma"):
        yield _encoded(picture.convert("1"), "TIFF", compression=compression)
    yield _encoded(picture, "TIFF", save_all=True, append_images=[picture])
    for options in ({}, {"lossless": True}, {"exif": exif}):
        yield _encoded(picture, "WEBP", **options)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_checksums(data: bytes) -> bytes:
    """A PNG with right checksums, without which no mutation gets past the first chunk."""
    if not data.startswith(PNG):
        return data
    parts, place = [PNG], len(PNG)
    while place + 12 <= len(data):
        end = place + 8 + struct.unpack_from(">I", data, place)[0]
        if end + 4 > len(data):
            break
        parts += [data[place:end], struct.pack(">I", zlib.crc32(data[place + 4 : end]))]
        place = end + 4
    return b"".join([*parts, data[place:]])


@contextmanager
def no_complaints() -> Iterator[None]:
    """What a decoder writes to standard error about pixels that were accepted is a finding."""
    with TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        lines = said.read(10_000).decode(errors="replace").splitlines()
    complaints = [line for line in lines if not line.startswith(ABOUT_TAGS)]
    if complaints:
        raise AssertionError(f"accepted, though the decoder said: {complaints[0]}")


@target("image", seeds=seeds, memory_mb=512)
def image(data: bytes) -> None:
    os.environ["DRAEM_MAX_PIXELS"] = str(MAX_PIXELS)
    with as_file(with_checksums(data), "image.png") as path:
        with no_complaints():
            pixels = decode_image(path)
        if read_size(path) != pixels.shape[:2]:
            raise AssertionError("the header told another size than the picture has")


@target("mask", seeds=seeds, memory_mb=512)
def mask(data: bytes) -> None:
    os.environ["DRAEM_MAX_PIXELS"] = str(MAX_PIXELS)
    with as_file(with_checksums(data), "mask.png") as path:
        levels = read_mask(path)
        if levels.ndim != 2 or levels.dtype != np.uint8:
            raise AssertionError("a mask is no grey picture")
