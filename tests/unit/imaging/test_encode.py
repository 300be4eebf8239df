from __future__ import annotations

import base64
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from draem.errors import OutputError
from draem.imaging.encode import map_to_uint16, to_data_uri, write_png


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_png_files_hold_the_pixels(tmp_path, rgb):
    assert write_png(tmp_path / "rgb.png", rgb) == tmp_path / "rgb.png"
    write_png(tmp_path / "grey.png", rgb[..., 0])
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 109
    write_png(tmp_path / "deep.png", deep)

    read = {p.stem: cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in tmp_path.iterdir()}

    np.testing.assert_array_equal(read["rgb"][..., ::-1], rgb)
    np.testing.assert_array_equal(read["grey"], rgb[..., 0])
    np.testing.assert_array_equal(read["deep"], deep)
    assert read["deep"].dtype == np.uint16


def test_views_that_are_not_contiguous_are_written(tmp_path, rgb):
    write_png(tmp_path / "a.png", rgb[::2, ::-1])

    read = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    np.testing.assert_array_equal(read, rgb[::2, ::-1])


def test_a_missing_folder_is_an_output_error(tmp_path, rgb):
    with pytest.raises(OutputError, match="cannot be written"):
        write_png(tmp_path / "missing" / "a.png", rgb)


def test_map_to_uint16():
    levels = map_to_uint16(np.array([[0, 1e-5, 0.25, 1, 1.5, -0.5]], np.float32))

    assert levels.dtype == np.uint16
    assert levels.tolist() == [[0, 1, 16384, 65535, 65535, 0]]


def test_map_to_uint16_loses_half_a_level_at_most():
    anomaly_map = np.random.default_rng(0).random((50, 60), dtype=np.float32)

    difference = map_to_uint16(anomaly_map) / 65535 - anomaly_map

    assert np.abs(difference).max() <= 0.5001 / 65535 + 1e-7


@pytest.mark.parametrize(("file_format", "limit"), [("png", 0), ("jpeg", 12), ("webp", 12)])
def test_data_uris_hold_the_picture(file_format, limit):
    across = np.linspace(0, 255, 64).astype(np.uint8)
    picture = np.dstack([np.tile(across, (48, 1)), np.full((48, 64), 90, np.uint8)] * 2)[..., :3]

    head, text = to_data_uri(picture, file_format).split(",")

    assert head == f"data:image/{file_format};base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.format == file_format.upper()
        difference = np.asarray(image.convert("RGB")).astype(int) - picture
    assert np.abs(difference).max() <= limit


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_lower_quality_is_smaller(rgb, file_format):
    assert len(to_data_uri(rgb, file_format, 20)) < len(to_data_uri(rgb, file_format, 95))


def test_grey_data_uri(rgb):
    assert to_data_uri(rgb[..., 1]).startswith("data:image/png;base64,")
