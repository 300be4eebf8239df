"""Pictures come out of PNG files whatever else is in them, and damage is found."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from draem.errors import ImageError
from draem.imaging.decode import decode_image, decode_mask, read_size
from draem.imaging.png import START

HEIGHT, WIDTH = 24, 36


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def with_chunk(path: Path, added: bytes, *, before: bytes) -> None:
    """Put a chunk in front of the first of a name."""
    data = path.read_bytes()
    place = data.index(before) - 4
    path.write_bytes(data[:place] + added + data[place:])


LARGE = {
    "text": chunk(b"tEXt", b"Comment\0" + b"x" * 5_000_000),
    "compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000))),
    "small bomb": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))),
    "international text": chunk(b"iTXt", b"Notes\0\0\0\0\0" + b"x" * 3_000_000),
    "compressed international": chunk(
        b"iTXt", b"Notes\0\1\0\0\0" + zlib.compress(bytes(3_000_000))
    ),
    "orientation bomb": chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(50_000_000))
    ),
    "packet of metadata": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 3_000_000),
    "profile": chunk(
        b"iCCP", b"ICC\0\0" + zlib.compress(np.random.default_rng(5).bytes(3_000_000))
    ),
    "damaged profile": chunk(b"iCCP", b"ICC\0\0nonsense"),
    "unknown": chunk(b"prVt", b"x" * 3_000_000),
    "animation": chunk(b"acTL", b"\xff" * 8),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_large_and_odd_metadata_do_not_cost_the_picture(tmp_path, rgb, name, before):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    with_chunk(path, LARGE[name], before=before)

    np.testing.assert_array_equal(decode_image(path), rgb)
    np.testing.assert_array_equal(decode_mask(path), rgb.max(axis=2))
    assert read_size(path) == (HEIGHT, WIDTH)


def test_many_texts_do_not_cost_the_picture(tmp_path, rgb):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    with_chunk(path, chunk(b"tEXt", b"Comment\0" + b"x" * 900_000) * 80, before=b"IDAT")

    np.testing.assert_array_equal(decode_image(path), rgb)


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_the_orientation_counts_before_and_behind_the_pixels(tmp_path, rgb, before):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    with_chunk(path, chunk(b"eXIf", exif.tobytes()[6:]), before=before)

    np.testing.assert_array_equal(decode_image(path), np.rot90(rgb, -1))
    assert read_size(path) == (WIDTH, HEIGHT)


def test_the_orientation_in_a_text_counts(tmp_path, rgb):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    block = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    Image.fromarray(rgb).save(path, pnginfo=text)

    np.testing.assert_array_equal(decode_image(path), rgb[::-1, ::-1])


@pytest.mark.parametrize("depth", ["L", "P", "RGBA", "I;16"])
def test_one_flipped_bit_of_the_pixels_is_found(tmp_path, rgb, depth):
    path = tmp_path / "a.png"
    if depth == "I;16":
        Image.fromarray(rgb[..., 0].astype(np.uint16) * 250).save(path, compress_level=0)
    else:
        Image.fromarray(rgb).convert(depth).save(path, compress_level=0)
    whole = path.read_bytes()
    start, end = whole.index(b"IDAT") + 4, whole.index(b"IEND") - 8
    for place in np.random.default_rng(6).integers(start, end, 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ImageError, match="damaged or incomplete"):
            decode_image(path)


def test_missing_pixels_are_found(tmp_path, rgb):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    data = path.read_bytes()
    (length,) = struct.unpack_from(">I", data, data.index(b"IDAT") - 4)
    start = data.index(b"IDAT") + 4
    half = chunk(b"IDAT", data[start : start + length // 2])
    for pixels in (b"", half):
        path.write_bytes(data[: start - 8] + pixels + chunk(b"IEND", b""))
        with pytest.raises(ImageError, match="damaged or incomplete"):
            decode_image(path)


def test_a_file_of_the_signature_alone_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(START)

    for read in (decode_image, read_size):
        with pytest.raises(ImageError):
            read(tmp_path / "a.png")
