"""Damage in JPEG and WebP files is found where the format allows it."""

from __future__ import annotations

import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from draem.errors import ImageError
from draem.imaging.decode import decode_image, read_size
from draem.imaging.jpeg import read_jpeg_layout, starving


def picture(rng: np.random.Generator, height: int, width: int, blur: float) -> np.ndarray:
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), blur)


def encoded(pixels: np.ndarray, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def missing(data: bytes, rng: np.random.Generator) -> bytes:
    """Without a tenth of the pixels' data, from the middle of the first scan."""
    start = data.index(b"\xff\xda") + 20 if data[:2] == b"\xff\xd8" else 40
    room = len(data) - start
    length = max(64, room // 10)
    place = start + int(rng.integers(0, room - length - 10))
    return data[:place] + data[place + length :]


def is_refused(tmp_path, data: bytes) -> bool:
    (tmp_path / "a.jpg").write_bytes(data)
    try:
        decode_image(tmp_path / "a.jpg")
    except ImageError:
        return True
    return False


def test_whole_files_of_every_kind_are_read(tmp_path):
    """Against Pillow, on whole files with and without bytes behind the end."""
    rng = np.random.default_rng(1)
    path = tmp_path / "a.jpg"
    for turn in range(200):
        height, width = rng.integers(16, 120, 2)
        pixels = picture(rng, height, width, rng.uniform(0.3, 6))
        if turn % 3 == 0:
            pixels[:] = rng.integers(256)
        options: dict[str, object] = {
            "quality": int(rng.integers(5, 100)),
            "subsampling": int(rng.integers(3)),
            "optimize": bool(rng.integers(2)),
            "progressive": turn % 4 == 1,
        }
        if turn % 4 == 2:
            options["restart_marker_blocks"] = int(rng.integers(1, 9))
        data = encoded(pixels, mode=("RGB", "L", "CMYK")[turn % 7 % 3], **options)
        path.write_bytes(data + (rng.bytes(50) if turn % 5 == 0 else b""))

        with Image.open(io.BytesIO(data)) as opened:
            expected = np.asarray(opened.convert("RGB"))
        np.testing.assert_array_equal(decode_image(path), expected, str(options))
        assert read_size(path) == (height, width)


@pytest.mark.parametrize(
    ("kind", "options", "share"),
    [
        ("JPEG", {}, 0.99),
        ("JPEG", {"subsampling": 0, "optimize": True}, 0.99),
        ("JPEG", {"restart_marker_blocks": 4}, 0.9),
        ("WEBP", {}, 1),
        ("WEBP", {"lossless": True}, 1),
    ],
)
def test_data_missing_in_the_middle_are_found(tmp_path, kind, options, share):
    rng = np.random.default_rng(2)
    files = [encoded(picture(rng, 120, 140, 1.5), kind, **options) for _ in range(10)]

    found = [is_refused(tmp_path, missing(data, rng)) for data in files for _ in range(10)]

    assert np.mean(found) >= share


def test_pillow_alone_would_fill_what_is_missing():
    """Why the end marker is kept back."""
    rng = np.random.default_rng(3)
    damaged = missing(encoded(picture(rng, 120, 140, 1.5)), rng)

    with Image.open(io.BytesIO(damaged)) as opened:
        assert np.ptp(np.asarray(opened)[-4:, -8:], axis=(0, 1)).max() < 10


@pytest.mark.parametrize("lost", [1, 3])
def test_lost_restart_intervals_are_found(tmp_path, lost):
    data = encoded(picture(np.random.default_rng(4), 128, 128, 2), restart_marker_blocks=4)
    marks = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    assert not is_refused(tmp_path, data)

    assert is_refused(tmp_path, data[: marks[3]] + data[marks[3 + lost] :])


def test_the_layout_by_hand():
    interval = b"\xff\xdd\x00\x04\x00\x01"
    head = b"\xff\xd8" + b"\xff\xe0\x00\x04ab" + b"\xff\xc0\x00\x03x" + interval
    scan = b"\xff\xda\x00\x03x" + b"12\xff\x00\xff\xd0" + b"34\xff\xd1" + b"56"
    data = head + scan + scan + b"\xff\xd9 behind \xff\xda"

    layout = read_jpeg_layout(data)

    assert (layout.frame, layout.scans, layout.in_order) == (0xC0, 2, True)
    assert layout.end == data.index(b"\xff\xd9")
    assert not read_jpeg_layout(data.replace(b"\xff\xd1", b"\xff\xd2")).in_order
    assert not read_jpeg_layout(data.replace(b"\x00\x01", b"\x00\x00")).in_order
    assert not read_jpeg_layout(data.replace(interval, b"")).in_order
    assert read_jpeg_layout(data[: layout.end]).end is None
    assert starving(data, layout) == data


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "TIFF"])
def test_a_marker_in_the_midst_of_a_scan_is_found(tmp_path, kind):
    """The decoder would take it for the end of the scan and fill the rest without a word."""
    options = {"JPEG": {}, "progressive": {"progressive": True}, "TIFF": {"compression": "jpeg"}}
    pixels = picture(np.random.default_rng(7), 120, 140, 1.5)
    data = encoded(pixels, "TIFF" if kind == "TIFF" else "JPEG", **options[kind])
    assert not is_refused(tmp_path, data)
    scan = data.rindex(b"\xff\xda")
    middle = scan + (data.index(b"\xff\xd9", scan) - scan) // 2
    # A progressive picture may end after any scan.
    passed = {0xD9} if kind == "progressive" else set()
    for marker in set(range(0x01, 0xFF)) - passed:
        for segment in (b"", b"\x00\x04ab"):
            stray = bytes([0xFF, marker]) + segment
            assert is_refused(tmp_path, data[:middle] + stray + data[middle:]), hex(marker)


def test_a_thumbnail_is_no_scan():
    thumbnail = b"\xff\xda" * 200
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = encoded(picture(np.random.default_rng(5), 32, 32, 2))

    assert read_jpeg_layout(data[:2] + header + data[2:]).scans == 1


def test_several_pictures_in_one_jpeg(tmp_path):
    rng = np.random.default_rng(6)
    first, second = (Image.fromarray(picture(rng, 40, 50, 2)) for _ in range(2))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    first.save(tmp_path / "b.jpg")

    np.testing.assert_array_equal(
        decode_image(tmp_path / "a.mpo"), decode_image(tmp_path / "b.jpg")
    )
