"""What one image may cost, in pixels, time and memory."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.errors import ImageError, InputError
from draem.imaging.decode import decode_image, decode_mask, read_size
from draem.imaging.limits import (
    MAX_PIXELS,
    MAX_SECONDS,
    ImageLimits,
    TimedBytes,
    TooSlowError,
    image_limits,
)


def jpeg_of_scans(scans: int, side: int = 1000) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    buffer = io.BytesIO()
    y, x = np.mgrid[:side, :side]
    Image.fromarray((x * y % 251).astype(np.uint8)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:start] + data[start:end] * scans + data[end:]


def test_limits_come_from_the_environment(monkeypatch):
    assert image_limits() == ImageLimits(MAX_PIXELS, MAX_SECONDS)

    monkeypatch.setenv("DRAEM_MAX_PIXELS", "5e3")
    monkeypatch.setenv("DRAEM_MAX_IMAGE_SECONDS", "0.5")

    assert image_limits() == ImageLimits(5000, 0.5)


@pytest.mark.parametrize("name", ["DRAEM_MAX_PIXELS", "DRAEM_MAX_IMAGE_SECONDS"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_positive_number_is_named(tmp_path, monkeypatch, name, value):
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setenv(name, value)

    with pytest.raises(InputError, match=f"{name} is no positive number. Found '{value}'"):
        decode_image(tmp_path / "a.png")


@pytest.mark.parametrize("read", [decode_image, decode_mask, read_size])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_more_pixels_than_the_limit_are_refused(tmp_path, monkeypatch, read, suffix):
    Image.new("L", (100, 50)).save(tmp_path / f"a.{suffix}")
    monkeypatch.setenv("DRAEM_MAX_PIXELS", "5000")
    read(tmp_path / f"a.{suffix}")
    monkeypatch.setenv("DRAEM_MAX_PIXELS", "4999")

    with pytest.raises(ImageError, match=r"is too large.*at most 4999 .*100x50.*DRAEM_MAX_PIXELS"):
        read(tmp_path / f"a.{suffix}")


def test_a_jpeg_of_many_scans_is_refused_at_once(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg_of_scans(5000, side=64))

    start = time.thread_time()
    with pytest.raises(ImageError, match=r"a\.jpg: would take too long.*at most 100 scans"):
        decode_image(tmp_path / "a.jpg")
    assert time.thread_time() - start < 1


def test_a_usual_progressive_jpeg_is_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg_of_scans(1))

    assert decode_image(tmp_path / "a.jpg").shape == (1000, 1000, 3)


def test_decoding_stops_when_its_time_is_over(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(jpeg_of_scans(80))
    monkeypatch.setenv("DRAEM_MAX_IMAGE_SECONDS", "0.05")

    start = time.thread_time()
    with pytest.raises(ImageError, match=r"a\.jpg: takes too long to decode.*at most 0.05 s"):
        decode_image(tmp_path / "a.jpg")
    stopped = time.thread_time() - start
    monkeypatch.delenv("DRAEM_MAX_IMAGE_SECONDS")
    start = time.thread_time()
    decode_image(tmp_path / "a.jpg")

    assert stopped < (time.thread_time() - start) / 2


def test_waiting_does_not_count():
    file = TimedBytes(b"abc", 0.01)
    time.sleep(0.05)
    assert file.read(1) == b"a"
    start = time.thread_time()
    while time.thread_time() - start < 0.02:
        pass
    with pytest.raises(TooSlowError):
        file.read()


MEMORY = """
import resource, sys
from draem.imaging.decode import decode_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels = decode_image(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / (pixels.shape[0] * pixels.shape[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in other units")
@pytest.mark.parametrize(("mode", "most"), [("1", 5), ("L", 5), ("P", 5), ("RGB", 8), ("RGBA", 8)])
def test_memory_per_pixel(tmp_path, mode, most):
    side = 5000
    Image.new(mode, (side, side)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 400_000

    command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert float(done.stdout) < most


def test_memory_of_a_file_that_is_no_image_is_small(tmp_path):
    with Path(tmp_path / "a.bmp").open("wb") as file:
        file.truncate(10**9)

    with pytest.raises(ImageError, match="is not an image"):
        read_size(tmp_path / "a.bmp")
