"""Image and mask files."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from draem.imaging.decode import decode_image, decode_mask
from fuzz.harness import as_file, target

Image.init()


def _small_images() -> Iterator[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    for mode in ("L", "RGB", "1", "P"):
        for kind in ("PNG", "BMP", "TIFF"):
            yield _encoded(Image.fromarray(pixels[..., :3]).convert(mode), kind)
    for kind in ("JPEG", "WEBP"):
        yield _encoded(Image.fromarray(pixels[..., :3]), kind)


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@target("image", seeds=_small_images)
def image(data: bytes) -> None:
    with as_file(data, "image.png") as path:
        decode_image(path)


@target("mask", seeds=_small_images)
def mask(data: bytes) -> None:
    with as_file(data, "mask.png") as path:
        decode_mask(path)
