from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.errors import ImageError
from draem.imaging.mask import read_mask
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


def test_soft_edges_and_lossy_compression_are_clear(tmp_path: Path) -> None:
    large = Image.fromarray(np.where(shape(), 255, 0).astype(np.uint8)).resize(
        (300, 250), Image.Resampling.BILINEAR
    )
    large.save(tmp_path / "soft.png")
    large.save(tmp_path / "lossy.jpg", quality=60)
    for name in ("soft.png", "lossy.jpg"):
        assert np.unique(read_mask(tmp_path / name)).size > 3
