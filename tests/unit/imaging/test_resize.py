from __future__ import annotations

import numpy as np
import pytest

from draem.imaging.resize import resize_image, resize_map, shrink_map


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
def test_the_right_size_gives_the_same_array(interpolation):
    picture = image(20, 30, 3)

    assert resize_image(picture, (20, 30), interpolation) is picture
    assert resize_image(picture, [20, 30], interpolation) is picture  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("size", [(10, 15), (40, 60), (10, 60), (41, 30)])
def test_shape_and_type(interpolation, channels, size):
    resized = resize_image(image(20, 30, *channels), size, interpolation)

    assert resized.shape == (*size, *channels)
    assert resized.dtype == np.uint8


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
@pytest.mark.parametrize("size", [(7, 9), (33, 44), (7, 44)])
def test_one_colour_stays_one_colour(interpolation, size):
    flat = np.full((20, 30, 3), (10, 130, 250), np.uint8)

    assert np.all(resize_image(flat, size, interpolation) == (10, 130, 250))


def test_area_averages_all_pixels_and_bilinear_reads_only_the_nearest():
    picture = np.zeros((8, 8), np.uint8)
    picture[1:3, 1:3] = 240  # in the middle of the first 4x4 block

    # By hand: four of sixteen pixels are lit; the block's centre lies between those four.
    assert resize_image(picture, (2, 2), "area").tolist() == [[60, 0], [0, 0]]
    assert resize_image(picture, (2, 2), "bilinear").tolist() == [[240, 0], [0, 0]]
    picture[1:3, 1:3], picture[0, :4] = 0, 240
    assert resize_image(picture, (2, 2), "area").tolist() == [[60, 0], [0, 0]]
    assert resize_image(picture, (2, 2), "bilinear").tolist() == [[0, 0], [0, 0]]


def test_area_is_bilinear_when_enlarging():
    picture = image(10, 12, 3)

    enlarged = resize_image(picture, (25, 40), "area")

    np.testing.assert_array_equal(enlarged, resize_image(picture, (25, 40), "bilinear"))


def test_area_with_one_side_shrunk_and_the_other_enlarged():
    picture = image(20, 10)
    averaged = picture.reshape(5, 4, 10).mean(axis=1)  # 20 rows into 5

    mixed = resize_image(picture, (5, 20), "area")

    # By hand: twice the width puts each new pixel a quarter of an old one beside the old centre.
    expected = 0.75 * averaged[:, 4] + 0.25 * averaged[:, 5]
    np.testing.assert_allclose(mixed[:, 9], expected, atol=1.01)


def test_bilinear_values_by_hand():
    picture = np.array([[0, 100]], np.uint8)

    assert resize_image(picture, (1, 4), "bilinear").tolist() == [[0, 25, 75, 100]]


def test_maps_keep_their_range_and_place():
    anomaly_map = np.zeros((32, 32), np.float32)
    anomaly_map[8:16, 16:24] = 1

    resized = resize_map(anomaly_map, (96, 128))

    assert resized.dtype == np.float32
    assert resized.shape == (96, 128)
    assert resized.min() == 0
    assert resized.max() == 1
    rows, columns = np.nonzero(resized > 0.5)
    assert (rows.min(), rows.max() + 1) == (24, 48)
    assert (columns.min(), columns.max() + 1) == (64, 96)


def test_a_map_of_the_right_size_is_given_back():
    anomaly_map = np.ones((5, 6), np.float32)

    assert resize_map(anomaly_map, (5, 6)) is anomaly_map


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 33), (100, 80), (99, 79)])
def test_a_shrunk_map_keeps_every_maximum(size):
    plane = np.random.default_rng(1).random((100, 80)).astype(np.float32)

    shrunk = shrink_map(plane, size)

    assert shrunk.shape == size
    assert shrunk.dtype == np.float32
    edges = [
        [part * length // parts for part in range(parts + 1)]
        for parts, length in zip(size, (100, 80), strict=True)
    ]
    for row in range(size[0]):
        for column in range(size[1]):
            part = plane[edges[0][row] : edges[0][row + 1], edges[1][column] : edges[1][column + 1]]
            assert shrunk[row, column] == part.max()


def test_one_marked_pixel_stays_in_a_shrunk_mask():
    mask = np.zeros((1000, 1000), bool)
    mask[517, 333] = True
    assert np.argwhere(shrink_map(mask, (10, 10))).tolist() == [[5, 3]]
