from __future__ import annotations

import numpy as np
import pytest

from draem.imaging.annotate import Box, annotate_regions, draw_plate


def corners(box: Box) -> list[tuple[float, float]]:
    x, y, width, height = box
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def marked(shape: tuple[int, int], *boxes: Box) -> np.ndarray:
    picture = np.full((*shape, 3), 120, np.uint8)
    drawn = annotate_regions(picture, boxes, [corners(box) for box in boxes])
    assert (picture == 120).all()
    return drawn


def inside(box: Box) -> tuple[slice, slice]:
    x, y, width, height = box
    return slice(y, y + height), slice(x, x + width)


@pytest.mark.parametrize("side", [64, 256, 1000, 8000])
def test_a_small_region_of_any_picture_shows_within_its_marks(side: int) -> None:
    box = (side // 2, side // 3, 8, 7)
    drawn = marked((side, side), box)
    assert (drawn[inside(box)] == 120).all()
    rows, columns = np.nonzero((drawn != 120).any(axis=2))
    # Of a picture shrunk to a thousand pixels, at least eight; of the picture, at most a fiftieth.
    for spread in (np.ptp(rows) + 1, np.ptp(columns) + 1):
        assert max(9, side / 125) <= spread <= 9 + max(4, side / 50)


def test_a_contour_is_followed_and_the_box_stands_off() -> None:
    drawn = marked((1000, 1000), (500, 400, 20, 10))
    white = (drawn == 255).all(axis=2)
    # Contour, a gap, the box, from the left: margin round(1000 / 400) = 2 and 1 pixel each.
    assert white[405, 490:500].tolist() == [False] * 7 + [True, False, True]
    assert white[405, 520:530].tolist() == [True, False, True] + [False] * 7
    assert (drawn[405, 496] == 20).all(), "a dark rim outside the box"


@pytest.mark.parametrize("box", [(0, 0, 8, 7), (492, 493, 8, 7), (0, 0, 500, 500)])
def test_a_region_at_the_edge_is_not_hidden(box: Box) -> None:
    assert (marked((500, 500), box)[inside(box)] == 120).all()


def test_the_marks_of_one_region_do_not_hide_another() -> None:
    large, small = (100, 100, 200, 200), (302, 150, 3, 3)
    drawn = marked((500, 500), large, small)
    for box in (large, small):
        assert (drawn[inside(box)] == 120).all()


def test_a_contour_that_is_no_box() -> None:
    picture = np.full((100, 100, 3), 120, np.uint8)
    bent = [(20, 20), (60, 20), (60, 30), (30, 30), (30, 60), (20, 60)]
    drawn = annotate_regions(picture, [(20, 20, 40, 40)], [bent])
    white = (drawn == 255).all(axis=2)
    assert not white[20:30, 20:60].any()
    assert not white[20:60, 20:30].any()
    assert white[30, 30:60].all()
    assert white[30:60, 30].all()
    assert not white[32:59, 32:59].any()


@pytest.mark.parametrize("shape", [(128, 128), (300, 1000), (4000, 4000), (40, 4000)])
def test_the_plate_is_dark_with_light_letters(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), (0, 200, 0), np.uint8)
    draw_plate(picture, "reject  0.83 / 0.21", [])
    rows, columns = np.nonzero((picture != (0, 200, 0)).any(axis=2))
    plate = picture[: rows.max() + 1, : columns.max() + 1]
    assert len(rows) == plate[..., 0].size
    assert len(rows) <= picture[..., 0].size / 8
    assert plate.shape[0] >= max(12, min(shape) / 40)
    assert plate[0].max() == plate[-1].max() == plate[:, 0].max() == plate[:, -1].max() == 20
    assert 0.05 < (plate > 200).mean() < 0.4


def test_the_plate_goes_where_it_hides_no_region() -> None:
    boxes = [(0, 0, 30, 10), (200, 10, 56, 20), (20, 240, 5, 5)]
    picture = np.full((256, 256, 3), 120, np.uint8)
    draw_plate(picture, "pass  0.1 / 0.2", boxes)
    rows, columns = np.nonzero((picture != 120).any(axis=2))
    assert rows.max() == columns.max() == 255
    for box in boxes:
        assert (picture[inside(box)] == 120).all()


def test_a_plate_that_would_hide_a_small_picture_is_left_out() -> None:
    picture = np.full((64, 64, 3), 120, np.uint8)
    draw_plate(picture, "reject  0.83 / 0.21", [])
    assert (picture == 120).all()
