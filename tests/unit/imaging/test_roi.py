from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.errors import ImageError, InputError, ModelFileError
from draem.imaging.roi import (
    check_roi_file,
    decode_roi,
    draw_polygons,
    encode_roi,
    fit_roi,
)
from tests.reference.polygon import draw_polygon

Save = Callable[[Path, np.ndarray], Path]


def half(height: int, width: int) -> np.ndarray:
    """The left half."""
    inside = np.zeros((height, width), bool)
    inside[:, : width // 2] = True
    return inside


def test_a_mask_is_brought_to_the_size_of_the_network(save_image: Save, tmp_path: Path) -> None:
    for given in (half(64, 96), save_image(tmp_path / "mask.png", half(64, 96) * np.uint8(255))):
        assert (fit_roi(given, (64, 96)) == half(64, 96)).all()
        assert (fit_roi(given, (32, 48)) == half(32, 48)).all()
        assert (fit_roi(given, (128, 192)) == half(128, 192)).all()


@pytest.mark.parametrize(("level", "counts"), [(127, False), (128, True), (255, True)])
def test_levels_from_the_middle_on_count(
    save_image: Save, tmp_path: Path, level: int, counts: bool
) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:16, 30] = level  # a soft edge
    pixels[:, 31] = 255
    inside = fit_roi(save_image(tmp_path / "mask.png", pixels), (32, 32))
    assert inside[:16, 30].all() == inside[:16, 30].any() == counts


def test_transparency_is_refused_where_it_contradicts_the_colour(
    save_image: Save, tmp_path: Path
) -> None:
    pixels = np.zeros((32, 48, 4), np.uint8)
    pixels[:, :24] = 255
    path = save_image(tmp_path / "mask.png", pixels)  # black where transparent: clear enough
    assert (fit_roi(path, (32, 48)) == half(32, 48)).all()
    pixels[..., :3] = 255  # drawn by transparency alone: clear enough too
    assert (fit_roi(save_image(path, pixels), (32, 48)) == half(32, 48)).all()
    pixels[:8, :, :3] = 0
    with pytest.raises(ImageError, match=r"mask\.png: .*transparent where it is white"):
        fit_roi(save_image(path, pixels), (32, 48))
    palette = Image.new("P", (48, 32))
    palette.putpalette([255, 255, 255] * 2)
    palette.save(path, transparency=0)
    with pytest.raises(InputError, match="the region of interest is empty"):
        fit_roi(path, (32, 48))


def test_a_mask_of_many_pixels_counts_where_most_are_white() -> None:
    fine = np.zeros((64, 64), bool)
    fine[::2] = True
    fine[:32:4, ::2] = False
    inside = fit_roi(fine | half(64, 64), (16, 16))
    assert inside[:, :8].all()
    assert not inside[:8, 8:].any()  # three eighths of them are white there
    assert inside[8:, 8:].all()  # half are


def test_where_nothing_is_white_there_is_nothing_to_inspect(
    save_image: Save, tmp_path: Path
) -> None:
    path = save_image(tmp_path / "mask.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(InputError, match=r"mask\.png: .*nothing to inspect.*64x48 pixels"):
        fit_roi(path, (48, 64))
    speck = np.zeros((640, 640), bool)
    speck[0, 0] = True
    with pytest.raises(InputError, match="nothing to inspect"):
        fit_roi(speck, (64, 64))


def test_a_file_or_array_that_is_no_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match=r"text\.png"):
        fit_roi(tmp_path / "text.png", (32, 32))
    with pytest.raises(ImageError, match="does not exist"):
        fit_roi(str(tmp_path / "missing.png"), (32, 32))
    for array in (np.ones((4, 4)), np.ones((4, 4, 3), bool), np.ones((0, 4), bool)):
        with pytest.raises(InputError, match=r"bool.*Found"):
            fit_roi(array, (32, 32))


POLYGONS = [
    [(0.1, 0.2), (0.8, 0.15), (0.6, 0.9)],
    [(0, 0), (1, 1), (1, 0), (0, 1)],  # crosses itself
    [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.5, 0.4), (0.2, 0.8)],
    [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
]


@pytest.mark.parametrize("polygon", POLYGONS)
@pytest.mark.parametrize("size", [(20, 30), (32, 32), (17, 41)])
def test_a_polygon_is_drawn_as_by_its_definition(
    polygon: list[tuple[float, float]], size: tuple[int, int]
) -> None:
    corners = [(x * size[1], y * size[0]) for x, y in polygon]
    expected = draw_polygon(corners, size)
    assert 0 < expected.mean() < 1
    assert (draw_polygons([polygon], size) == expected).all()


def test_polygons_add_up_and_the_whole_image_is_one() -> None:
    left = [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]
    right = [(0.25, 0), (1, 0), (1, 1), (0.25, 1)]
    assert (draw_polygons([left], (32, 64)) == half(32, 64)).all()
    assert draw_polygons([left, right], (32, 64)).all()
    assert draw_polygons([[(0, 0), (0, 1), (1, 1), (1, 0)]], (31, 65)).all()
    assert not draw_polygons([[(0.5, 0), (0.5, 1), (0.5, 0.5)]], (32, 64)).any()


def test_proportions_must_be_those_of_the_images(save_image: Save, tmp_path: Path) -> None:
    sizes = [(300, 400), (301, 400), (30, 40), (400, 300)]
    paths = [
        save_image(tmp_path / f"{n}.png", np.zeros(size, np.uint8)) for n, size in enumerate(sizes)
    ]
    (tmp_path / "broken.png").write_text("no image")
    mask = save_image(tmp_path / "mask.png", np.zeros((75, 100), np.uint8))
    check_roi_file(mask, [*paths[:3], tmp_path / "broken.png"])
    expected = r"mask\.png: .*proportions.*3\.png, 300x400 .*Found 100x75"
    with pytest.raises(InputError, match=expected):
        check_roi_file(mask, paths)
    with pytest.raises(ImageError, match=r"broken\.png"):
        check_roi_file(tmp_path / "broken.png", paths)


def test_the_proportions_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 80)).save(tmp_path / "lying.jpg", exif=exif)
    Image.new("L", (80, 40)).save(tmp_path / "mask.png")
    check_roi_file(tmp_path / "mask.png", [tmp_path / "lying.jpg"])


@pytest.mark.parametrize("size", [(32, 32), (64, 97), (1, 9)])
def test_what_is_encoded_comes_back(size: tuple[int, int]) -> None:
    for share in (0.0, 0.3, 1.0):
        inside = np.random.default_rng(0).random(size) < share
        decoded = decode_roi(encode_roi(inside))
        assert decoded.dtype == np.bool_
        assert (decoded == inside).all()


def test_a_picture_larger_than_any_network_takes_is_refused() -> None:
    largest = np.ones((4096, 4096), bool)
    assert decode_roi(encode_roi(largest)).shape == largest.shape
    with pytest.raises(ModelFileError, match="region of interest is damaged"):
        decode_roi(encode_roi(np.ones((4097, 4096), bool)))


def test_a_damaged_text_is_explained() -> None:
    text = encode_roi(half(64, 64))
    cut = base64.b64encode(base64.b64decode(text)[:50]).decode()
    for damaged in ("", "?", text[:-7], cut, base64.b64encode(b"no picture").decode()):
        with pytest.raises(ModelFileError, match="region of interest is damaged"):
            decode_roi(damaged)


def test_a_mask_among_the_images_is_refused(save_image: Save, tmp_path: Path) -> None:
    mask = save_image(tmp_path / "mask.png", np.zeros((64, 64), np.uint8))
    image = save_image(tmp_path / "image.png", np.zeros((64, 64), np.uint8))
    check_roi_file(mask, [image])
    with pytest.raises(InputError, match=r"mask\.png: .*is among the images"):
        check_roi_file(tmp_path / "." / "mask.png", [image, mask])
