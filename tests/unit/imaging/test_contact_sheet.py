from __future__ import annotations

import numpy as np
import pytest

from draem.imaging.contact_sheet import contact_sheet

RED, BLUE = (255, 0, 0), (0, 0, 255)


def flat(height: int, width: int, color: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def extent(sheet: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the box around one colour."""
    rows, columns = np.nonzero(np.all(sheet == color, axis=2))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    return int(rows.min()), int(columns.min()), int(height), int(width)


def test_pictures_fill_their_cells_side_by_side():
    sheet = contact_sheet([[flat(50, 50, RED), flat(400, 400, BLUE)]], ["a", "b"], cell=100)

    assert sheet.dtype == np.uint8
    red, blue = extent(sheet, RED), extent(sheet, BLUE)
    assert red[2:] == blue[2:] == (100, 100)
    assert red[0] == blue[0]
    assert red[1] + 100 < blue[1] < red[1] + 120


@pytest.mark.parametrize(("height", "width"), [(40, 20), (20, 40), (1000, 500), (500, 1000)])
def test_pictures_keep_their_shape_and_stand_in_the_middle(height, width):
    sheet = contact_sheet([[flat(height, width, RED)], [flat(9, 9, BLUE)]], ["a"], cell=100)

    _, left, high, wide = extent(sheet, RED)
    assert (high, wide) == ((100, 50) if height > width else (50, 100))
    _, cell_left, _, _ = extent(sheet, BLUE)
    assert left + wide / 2 == cell_left + 50


def test_small_pictures_are_enlarged_without_blending():
    checks = np.indices((4, 4)).sum(axis=0) % 2 * 255
    sheet = contact_sheet([[checks.astype(np.uint8)]], [""], cell=64)

    top, left, _, _ = extent(sheet, (0, 0, 0))
    inner = sheet[top : top + 64, left : left + 64, 0]
    np.testing.assert_array_equal(inner, np.kron(checks, np.ones((16, 16))))


def test_large_pictures_are_averaged():
    checks = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    sheet = contact_sheet([[checks]], [""], cell=64)

    middle = sheet[sheet.shape[0] // 2, sheet.shape[1] // 2]
    np.testing.assert_allclose(middle, 127.5, atol=1)


def test_titles_take_room_and_ink():
    rows = [[flat(30, 30, RED)] * 2] * 2
    plain = contact_sheet(rows, ["", ""], cell=96)
    titled = contact_sheet(rows, ["", ""], ["first", "second"], "A title", cell=96)

    assert titled.shape[0] > plain.shape[0]
    assert titled.shape[1] > plain.shape[1]
    assert not np.any(np.all(plain < 120, axis=2))
    assert np.any(np.all(titled < 120, axis=2))
    assert extent(plain, RED)[2:] == extent(titled, RED)[2:]


def test_long_and_foreign_titles_stay_in_their_place():
    long = "Kratzer, Öl und Grat 部品 " * 20
    pictures = [[flat(30, 30, RED), flat(30, 30, BLUE)]]
    sheet = contact_sheet(pictures, [long, ""], [long], long, cell=96)
    short = contact_sheet(pictures, ["x", ""], ["x"], "x", cell=96)

    assert sheet.shape == short.shape
    red = extent(sheet, RED)
    assert red == extent(short, RED)
    gap = slice(red[1] - 4, red[1] - 1)
    np.testing.assert_array_equal(
        sheet[red[0] : red[0] + 96, gap], short[0, 0] + 0 * sheet[:96, gap]
    )
    above_second = sheet[red[0] - 30 : red[0] - 1, red[1] + 110 :]
    assert np.all(above_second == sheet[0, 0])


def test_rows_may_differ_in_length_and_pictures_be_grey():
    grey = np.full((10, 10), 200, np.uint8)
    sheet = contact_sheet([[flat(10, 10, RED), grey], [flat(10, 10, BLUE)]], ["a", "b"], cell=64)

    assert extent(sheet, (200, 200, 200))[2:] == (64, 64)
    assert extent(sheet, BLUE)[0] > extent(sheet, RED)[0]


def test_a_sheet_without_rows_is_paper():
    sheet = contact_sheet([], ["a"])

    assert sheet.ndim == 3
    assert np.median(sheet) > 240


def test_very_thin_pictures_are_placed():
    sheet = contact_sheet([[flat(2000, 2, RED)]], ["a"], cell=64)

    assert extent(sheet, RED)[2:] == (64, 1)


def test_titles_without_any_room_are_left_out():
    sheet = contact_sheet([[flat(10, 10, RED)]], ["W" * 50], cell=8)

    assert extent(sheet, RED)[2:] == (8, 8)
