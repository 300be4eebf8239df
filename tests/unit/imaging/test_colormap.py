from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from draem.imaging.colormap import heat, outline, overlay


def ramp(values: int = 101) -> np.ndarray:
    return np.linspace(0, 1, values, dtype=np.float32)[None]


def test_heat_goes_from_dark_through_blue_and_green_to_red():
    colors = heat(np.array([[0, 0.15, 0.5, 0.85, 1]], np.float32))

    assert colors.shape == (1, 5, 3)
    assert colors.dtype == np.uint8
    assert colors[0, 0].max() < 64
    assert colors[0, 1:].argmax(axis=1).tolist() == [2, 1, 0, 0]


def test_heat_has_one_scale_for_every_map():
    weak = np.array([[0.0, 0.1]], np.float32)
    strong = np.array([[0.1, 1.0]], np.float32)

    np.testing.assert_array_equal(heat(weak)[0, 1], heat(strong)[0, 0])


def test_heat_tells_levels_apart():
    assert len(np.unique(heat(ramp(256))[0], axis=0)) > 250


def test_values_outside_the_scale_are_clipped():
    wild, tame = np.array([[-1, 7]], np.float32), np.array([[0, 1]], np.float32)
    picture = np.full((1, 2, 3), 90, np.uint8)

    np.testing.assert_array_equal(heat(wild), heat(tame))
    np.testing.assert_array_equal(overlay(picture, wild), overlay(picture, tame))


def test_overlay_of_a_good_part_leaves_it_untouched():
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)

    np.testing.assert_array_equal(overlay(picture, np.zeros((40, 50), np.float32)), picture)


@pytest.mark.parametrize("background", [0, 128, 255])
def test_overlay_shows_less_of_the_image_the_higher_the_map(background):
    """Opacity, measured as what two images differ by under the same map."""
    one = np.full((1, 101, 3), background, np.uint8)
    other = one ^ 64

    difference = overlay(one, ramp()).astype(int) - overlay(other, ramp())

    shown = np.abs(difference).mean(axis=2)[0]
    assert shown[0] == 64
    assert np.all(np.diff(shown) <= 1)
    assert shown[50:].max() < 0.25 * 64
    assert shown.min() > 0


def test_overlay_differs_from_the_image_where_the_map_is_high():
    for grey in (0, 128, 255):
        picture = np.full((1, 1, 3), grey, np.uint8)
        difference = overlay(picture, np.ones((1, 1), np.float32)).astype(int) - picture
        assert np.abs(difference).max() > 60


def test_outline_surrounds_a_region_and_hides_none_of_it():
    mask = np.zeros((100, 120), bool)
    mask[40:60, 50:80] = True
    picture = np.full((100, 120, 3), 77, np.uint8)

    drawn = outline(picture, mask, (0, 255, 0))

    line = np.all(drawn == (0, 255, 0), axis=2)
    assert not np.any(line & mask)
    np.testing.assert_array_equal(line, ndimage.binary_dilation(mask) & ~mask)
    assert np.all(drawn[~line] == 77)
    assert np.all(picture == 77)


def test_outline_goes_round_holes_and_single_pixels():
    mask = np.zeros((50, 50), bool)
    mask[10:30, 10:30] = True
    mask[15:25, 15:25] = False
    mask[40, 40] = True

    line = outline(np.zeros((50, 50, 3), np.uint8), mask)[..., 0] > 0

    assert line[15, 20]
    assert not line[20, 20]
    assert line[39, 40]
    assert not line[40, 40]


def test_outline_is_closed_at_the_edge_of_the_image():
    line = outline(np.zeros((60, 80, 3), np.uint8), np.ones((60, 80), bool))[..., 0] > 0

    assert line[0].all()
    assert line[-1].all()
    assert line[:, 0].all()
    assert line[:, -1].all()
    assert not line[1:-1, 1:-1].any()


@pytest.mark.parametrize(("side", "thickness"), [(16, 1), (256, 1), (1024, 3), (2000, 5)])
def test_outline_thickness_suits_the_size(side, thickness):
    mask = np.zeros((side, side), bool)
    mask[side // 2 :] = True

    line = outline(np.zeros((side, side, 3), np.uint8), mask)[..., 0] > 0

    assert line[: side // 2, side // 2].sum() == thickness


def test_outline_of_nothing():
    picture = np.full((30, 30, 3), 9, np.uint8)

    np.testing.assert_array_equal(outline(picture, np.zeros((30, 30), bool)), picture)


def test_overlay_of_a_large_image_is_made_of_those_of_its_parts():
    rng = np.random.default_rng(4)
    picture = rng.integers(0, 256, (700, 40, 3), np.uint8)
    anomaly_map = rng.random((700, 40)).astype(np.float32)

    whole = overlay(picture, anomaly_map)

    for top in range(0, 700, 50):
        rows = slice(top, top + 50)
        np.testing.assert_array_equal(whole[rows], overlay(picture[rows], anomaly_map[rows]))


def test_the_threshold_has_one_colour_whatever_it_is():
    for threshold in (0.01, 0.3, 0.9):
        at, half = (np.array([[threshold * share]], np.float32) for share in (1, 0.5))
        np.testing.assert_array_equal(heat(at, threshold), heat(np.array([[0.75]], np.float32)))
        np.testing.assert_array_equal(heat(half, threshold), heat(np.array([[0.375]], np.float32)))
    ends = np.array([[0, 1]], np.float32)
    np.testing.assert_array_equal(heat(ends, 0.3), heat(ends))


def test_an_overlay_begins_at_half_the_threshold_and_is_strong_from_it_on():
    picture = np.random.default_rng(0).integers(0, 256, (1, 5, 3), dtype=np.uint8)
    other = picture ^ 64
    values = np.array([[0, 0.15, 0.225, 0.3, 1]], np.float32)

    drawn = overlay(picture, values, 0.3).astype(int)
    shown = np.abs(drawn - overlay(other, values, 0.3)).mean(axis=2)[0] / 64

    np.testing.assert_allclose(shown, [1, 1, 0.7, 0.4, 0.4], atol=0.02)
    np.testing.assert_array_equal(drawn[0, :2], picture[0, :2])


@pytest.mark.parametrize("threshold", [0.0, 1.0, 1.1])
def test_a_threshold_at_an_end_of_the_scale(threshold):
    drawn = overlay(np.full((1, 101, 3), 120, np.uint8), ramp(), threshold)

    assert (drawn[0, 0] == 120).all()
    assert (drawn[0, 100] != 120).any()
