from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from draem.errors import ImageError
from draem.imaging.mask import read_mask, read_masks
from draem.imaging.roi import fit_roi

SIZE = (40, 48)


def shape() -> np.ndarray:
    marked = np.zeros(SIZE, bool)
    marked[10:30, 20:40] = True
    return marked


def grey(black: int, white: int, dtype: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.where(shape(), white, black).astype(dtype))


def coloured(white: tuple[int, ...], black: tuple[int, ...], mode: str) -> Image.Image:
    picture = np.where(shape()[..., None], np.uint8(white), np.uint8(black))
    return Image.fromarray(picture, mode)


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    picture = Image.fromarray(shape().astype(np.uint8), "P")
    picture.putpalette([level for colour in colours for level in colour])
    return picture


def levels_of(*levels: int) -> Image.Image:
    picture = np.zeros(SIZE, np.uint8)
    for number, level in enumerate(levels):
        picture[:, 12 * number : 12 * number + 12] = level
    return Image.fromarray(picture)


def with_square(level: int) -> Image.Image:
    picture = np.where(shape(), 255, 0).astype(np.uint8)
    picture[2:5, 2:5] = level
    return Image.fromarray(picture)


def with_line(level: int) -> Image.Image:
    picture = np.where(shape(), 255, 0).astype(np.uint8)
    picture[3, 2:40] = level
    return Image.fromarray(picture)


MEANT = {
    "0 and 255": grey(0, 255),
    "0 and 1": grey(0, 1),
    "0 and 1 in 16 bits": grey(0, 1, np.uint16),
    "0 and 255 in 16 bits": grey(0, 255, np.uint16),
    "0 and 65535": grey(0, 65535, np.uint16),
    "one bit": Image.fromarray(shape()),
    "RGB": coloured((255, 255, 255), (0, 0, 0), "RGB"),
    "red": coloured((255, 0, 0), (0, 0, 0), "RGB"),
    "opaque": coloured((255, 255, 255, 255), (0, 0, 0, 255), "RGBA"),
    "drawn on a transparent layer": coloured((255, 255, 255, 255), (0, 0, 0, 0), "RGBA"),
    "drawn by transparency alone": coloured((255, 0, 0, 255), (255, 0, 0, 0), "RGBA"),
    "black drawn by transparency alone": coloured((0, 0, 0, 255), (0, 0, 0, 0), "RGBA"),
    "palette of black and red": palette((0, 0, 0), (200, 0, 0)),
    "palette whose order is turned": palette((0, 0, 0), (255, 255, 255)),
}
REFUSED = {
    "index colours": (levels_of(0, 1, 2, 3), "the levels 0, 1, 2, 3"),
    "a level below half": (grey(0, 100), "the levels 0, 100"),
    "a few pixels of another class": (with_square(100), "the levels 0, 100, 255"),
    "a line of another class": (with_line(90), "the levels 0, 90, 255"),
    "1 and 255": (with_square(1), "the levels 0, 1, 255"),
    "red on white": (coloured((255, 0, 0), (255, 255, 255), "RGB"), "no black, but several"),
    "several levels": (levels_of(0, 64, 255), "the levels 0, 64, 255"),
    "a palette with a dark class": (palette((0, 0, 0), (64, 0, 0)), "the levels 0, 64"),
    "white that is transparent": (
        coloured((255, 255, 255, 0), (0, 0, 0, 255), "RGBA"),
        "transparent where it is white",
    ),
}


@pytest.mark.parametrize("name", MEANT)
def test_means_what_it_shows_as_a_mask_and_as_a_region(name: str, tmp_path: Path) -> None:
    MEANT[name].save(tmp_path / "mask.png")
    assert ((read_mask(tmp_path / "mask.png") >= 128) == shape()).all()
    assert (fit_roi(tmp_path / "mask.png", SIZE) == shape()).all()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_unclear_is_refused_with_what_was_found(name: str, tmp_path: Path) -> None:
    picture, problem = REFUSED[name]
    picture.save(tmp_path / "mask.png")
    for read in (read_mask, lambda path: fit_roi(path, SIZE)):
        with pytest.raises(ImageError, match=problem) as raised:
            read(tmp_path / "mask.png")
        assert raised.value.path == tmp_path / "mask.png"


def drawn(seed: int) -> np.ndarray:
    """Some turned squares, circles and lines."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((160, 200), np.uint8)
    for centre in rng.integers(30, 130, (3, 2)).tolist():
        corners = cv2.boxPoints((centre, (30, 12), rng.uniform(0, 90))).astype(np.int32)
        cv2.fillPoly(picture, [corners], 255)
        cv2.circle(picture, centre[::-1], int(rng.integers(4, 15)), 255, -1)
        cv2.line(picture, centre, (190, 150), 255, int(rng.integers(2, 5)))
    return picture


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(200, 160), (113, 97), (430, 370), (800, 640)])
@pytest.mark.parametrize("resampling", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_soft_edges_and_lossy_compression_are_clear(
    seed: int, size: tuple[int, int], resampling: Image.Resampling, tmp_path: Path
) -> None:
    resized = Image.fromarray(drawn(seed)).resize(size, resampling)
    resized.save(tmp_path / "soft.png")
    assert (read_mask(tmp_path / "soft.png") == np.array(resized)).all()
    for name, quality in (("a.jpg", 50), ("b.jpg", 75), ("c.jpg", 95), ("d.webp", 70)):
        resized.save(tmp_path / name, quality=quality)
        differs = (read_mask(tmp_path / name) >= 128) != (np.array(resized) >= 128)
        assert differs.mean() < 0.02


def test_all_of_a_picture_may_be_white(tmp_path: Path) -> None:
    Image.new("RGB", (48, 40), "white").save(tmp_path / "all.jpg")
    assert (read_mask(tmp_path / "all.jpg") == 255).all()


def test_all_masks_of_an_image_mark_it(tmp_path: Path) -> None:
    left, right = np.zeros((2, *SIZE), np.uint8)
    left[5:20, 5:20] = 255
    right[10:30, 30:40] = 255
    for name, levels in (("a.png", left), ("b.png", right)):
        Image.fromarray(levels).save(tmp_path / name)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    assert (read_masks(paths) == np.maximum(left, right)).all()
    assert (read_masks(paths[:1]) == read_mask(paths[0])).all()


def test_numbers_of_kinds_of_defects_are_all_marked(tmp_path: Path) -> None:
    picture = np.zeros(SIZE, np.uint8)
    picture[5:10, 5:10], picture[20:30, 5:10], picture[20:30, 30:40] = 1, 2, 7
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = read_masks([tmp_path / "a.png"], numbered=True)
    assert (found == np.where(picture > 0, 255, 0)).all()
    with pytest.raises(ImageError, match="the levels 0, 1, 2, 7"):
        read_masks([tmp_path / "a.png"])
