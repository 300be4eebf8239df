from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from draem.inspection.regions import Region, outer_contour
from draem.inspection.scoring import filter_side
from tests.reference.polygon import draw_polygon, polygon_area
from tests.support import regions_of, score_of, smoothed


def random_map(seed: int) -> NDArray[np.float32]:
    """Noise of many kinds: even, sparse, coarse, or with few distinct values."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 60, 2))
    plane = rng.random((height, width)) ** rng.choice([0.3, 1, 4, 20])
    if seed % 3 == 1:
        plane = np.kron(rng.random((6, 7)), np.ones((9, 8)))
    if seed % 3 == 2:
        plane = np.round(plane * 3) / 3
    return plane.astype(np.float32)


@pytest.mark.parametrize("seed", range(30))
def test_there_are_regions_exactly_where_the_score_reaches_the_threshold(seed: int) -> None:
    plane = random_map(seed)
    score = score_of(plane)
    thresholds = [
        score,
        np.nextafter(score, 0),
        np.nextafter(score, 2),
        np.nextafter(np.float32(score), np.float32(0)),
        np.nextafter(np.float32(score), np.float32(2)),
        score - 1e-9,
        score + 1e-9,
        *np.random.default_rng(seed).random(10),
        0.0,
        1.0,
        1.5,
    ]
    for threshold in map(float, thresholds):
        regions = regions_of(plane, threshold, (100, 200))
        assert bool(regions) == (score >= threshold), threshold


def slow_regions(
    plane: NDArray[np.float32], threshold: float
) -> set[tuple[tuple[int, int, int, int], int, float]]:
    """Walks from pixel to pixel; a region stays if it lies near a place where the score alarms."""
    height, width = plane.shape
    half = filter_side(height, width) // 2
    alarms = np.argwhere(smoothed(plane).astype(float) >= threshold)
    left = {tuple(int(v) for v in p) for p in np.argwhere(plane.astype(float) >= threshold)}
    found = set()
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            region.add((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    edge.append(near)
        ys, xs = np.array(sorted(region)).T
        if any((abs(alarms - pixel).max(axis=1) <= half).any() for pixel in region):
            box = (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
            found.add((tuple(map(int, box)), len(region), float(plane[ys, xs].max())))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_regions_are_those_of_a_walk_from_pixel_to_pixel(seed: int) -> None:
    plane = random_map(seed)
    for share in (0.5, 0.9, 1.0):
        threshold = share * score_of(plane)
        regions = regions_of(plane, threshold, plane.shape)
        assert {(r.box, r.area, r.peak) for r in regions} == slow_regions(plane, threshold)
        assert all(first.peak >= second.peak for first, second in pairwise(regions))


def test_boxes_and_areas_are_in_pixels_of_the_image() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[16:32, 8:24] = 0.9
    level = float(np.float32(0.9))
    square = ((8.0, 16.0), (8.0, 32.0), (24.0, 32.0), (24.0, 16.0))
    expected = Region((8, 16, 16, 16), 256, peak=level, mean=level, contour=square)
    assert regions_of(plane, 0.5, (64, 64)) == (expected,)
    # Twice as high and thrice as wide: x 8 to 24 becomes 24 to 72, y 16 to 32 becomes 32 to 64.
    (larger,) = regions_of(plane, 0.5, (128, 192))
    assert (larger.box, larger.area) == ((24, 32, 48, 32), 256 * 6)
    assert larger.contour == ((24, 32), (24, 64), (72, 64), (72, 32))
    # A quarter as high: y 16 to 32 becomes 4 to 8.
    (smaller,) = regions_of(plane, 0.5, (16, 64))
    assert (smaller.box, smaller.area) == ((8, 4, 16, 4), 64)
    # 100 / 64 as large: x 12.5 to 37.5 and y 25 to 50, in whole pixels; 256 pixels become 625.
    (odd,) = regions_of(plane, 0.5, (100, 100))
    assert (odd.box, odd.area) == ((12, 25, 26, 25), 625)
    assert odd.contour == ((12.5, 25), (12.5, 50), (37.5, 50), (37.5, 25))


@pytest.mark.parametrize("image_size", [(16, 16), (17, 31), (63, 65), (1000, 16), (99, 12345)])
@pytest.mark.parametrize("corner", [(0, 0), (0, 60), (60, 0), (60, 60)])
def test_a_box_never_leaves_the_image(image_size: tuple[int, int], corner: tuple[int, int]) -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[corner[0] : corner[0] + 4, corner[1] : corner[1] + 4] = 1
    (region,) = regions_of(plane, 0.2, image_size)
    x, y, width, height = region.box
    assert x >= 0
    assert y >= 0
    assert width >= 1
    assert height >= 1
    assert x + width <= image_size[1]
    assert y + height <= image_size[0]
    assert region.area >= 1
    assert (x == 0) == (corner[1] == 0)
    assert (x + width == image_size[1]) == (corner[1] == 60)


def test_the_highest_peak_comes_first() -> None:
    plane = np.zeros((64, 64), np.float32)
    for number, peak in enumerate((0.6, 0.9, 0.7)):
        plane[20 * number : 20 * number + 12, 10:30] = peak
    regions = regions_of(plane, 0.5, (64, 64))
    assert [region.peak for region in regions] == [np.float32(p) for p in (0.9, 0.7, 0.6)]
    assert [region.box[1] for region in regions] == [20, 40, 0]


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[10:20, 10:20] = plane[20:30, 20:30] = 0.8
    assert [region.box for region in regions_of(plane, 0.5, (64, 64))] == [(10, 10, 20, 20)]
    plane[20:30, 20] = 0
    assert len(regions_of(plane, 0.5, (64, 64))) == 2


def test_a_filter_of_its_own_lets_a_small_defect_alarm() -> None:
    plane = np.zeros((256, 256), np.float32)
    plane[100:105, 50:55] = 1
    assert regions_of(plane, 0.5, (256, 256)) == ()
    (region,) = regions_of(plane, 0.5, (256, 256), 5)
    assert region.box == (50, 100, 5, 5)


def test_a_lone_bright_pixel_does_not_alarm_and_is_no_region_elsewhere() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[50, 50] = 1
    assert regions_of(plane, 0.5, (64, 64)) == ()
    plane[5:20, 5:20] = 0.8
    assert [region.box for region in regions_of(plane, 0.5, (64, 64))] == [(5, 5, 15, 15)]
    # The window is 5 wide, so a pixel 2 away from where it alarms still takes part.
    plane[17, 21] = 1
    assert [region.peak for region in regions_of(plane, 0.5, (64, 64))] == [
        1,
        np.float32(0.8),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_a_pixel_threshold_leaves_the_images_decision_alone(seed: int) -> None:
    plane, rng = random_map(seed), np.random.default_rng(seed)
    score = score_of(plane)
    for threshold in (score, score * 0.7, float(np.nextafter(score, 2)), *rng.random(3)):
        for pixel_threshold in (0.0, *rng.random(3), float(plane.max()), 1.5):
            regions = regions_of(plane, threshold, plane.shape, pixel_threshold=pixel_threshold)
            assert bool(regions) == (score >= threshold)
        plain = regions_of(plane, threshold, plane.shape)
        assert regions_of(plane, threshold, plane.shape, pixel_threshold=threshold) == plain


def test_a_pixel_threshold_marks_more_or_less_than_the_images() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[10:30, 10:30] = 0.3
    plane[14:26, 14:26] = 0.6
    plane[16:20, 16:20] = 0.9
    plane[50:54, 50:54] = 0.3

    def boxes(pixel_threshold: float | None) -> list[tuple[int, int, int, int]]:
        regions = regions_of(plane, 0.5, (64, 64), pixel_threshold=pixel_threshold)
        return [region.box for region in regions]

    assert boxes(None) == boxes(0.5) == [(14, 14, 12, 12)]
    assert boxes(0.2) == [(10, 10, 20, 20)], "what does not alarm is no region, marked or not"
    assert boxes(0.8) == [(16, 16, 4, 4)]


def test_a_pixel_at_the_pixel_threshold_is_marked() -> None:
    plane = np.full((64, 64), 0.5, np.float32)
    plane[20:30, 20:30] = 0.75
    for pixel_threshold, side in ((0.75, 10), (0.75 + 1e-9, 64)):
        (region,) = regions_of(plane, 0.5, (64, 64), pixel_threshold=pixel_threshold)
        assert region.box[2:] == (side, side)


def test_where_nothing_reaches_the_pixel_threshold_the_images_marks() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[10:20, 10:20] = 0.6
    plane[40:50, 40:50] = 0.95
    plane[60, 5] = 1  # alone, so it raises no alarm, and marks nothing for the others
    found = regions_of(plane, 0.5, (64, 64), pixel_threshold=0.9)
    assert [region.box for region in found] == [(40, 40, 10, 10), (10, 10, 10, 10)]
    above = regions_of(plane, 0.5, (64, 64), pixel_threshold=1.01)
    assert [region.box for region in above] == [(40, 40, 10, 10), (10, 10, 10, 10)]
    weak = np.where(plane == np.float32(0.95), 0, plane)
    (only,) = regions_of(weak, 0.5, (64, 64), pixel_threshold=0.9)
    assert only.box == (10, 10, 10, 10)


@pytest.mark.parametrize("seed", range(12))
def test_box_area_peak_and_mean_are_those_of_scikit_image(seed: int) -> None:
    plane = random_map(seed)
    threshold = 0.9 * score_of(plane)
    labels = measure.label(plane.astype(np.float64) >= threshold, connectivity=2)
    expected = {}
    for region in measure.regionprops(labels, plane):
        top, left, bottom, right = region.bbox
        expected[left, top, right - left, bottom - top, int(region.area)] = (
            region.intensity_max,
            region.intensity_mean,
        )
    regions = regions_of(plane, threshold, plane.shape)
    assert regions
    for region in regions:
        peak, mean = expected[(*region.box, region.area)]
        assert region.peak == peak
        assert region.mean == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_a_contour_encloses_exactly_its_region_and_the_holes_in_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marked = rng.random((14, 17)) < rng.uniform(0.2, 0.8)
    labels = measure.label(marked, connectivity=2)
    for label in range(1, labels.max() + 1):
        corners = [(int(x), int(y)) for x, y in outer_contour(labels == label)]
        filled = ndimage.binary_fill_holes(labels == label)
        assert (draw_polygon(corners, marked.shape) == filled).all()
        assert polygon_area(corners) == filled.sum()
        for (x, y), (u, v) in zip(corners, [*corners[1:], corners[0]], strict=True):
            assert (x == u) != (y == v), "edges run along pixels"


def test_the_contour_of_a_pixel_a_line_and_pixels_that_touch_by_a_corner() -> None:
    assert outer_contour(np.ones((1, 1), bool)).tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]
    assert outer_contour(np.ones((1, 5), bool)).tolist() == [[0, 0], [0, 1], [5, 1], [5, 0]]
    corners = outer_contour(np.eye(2, dtype=bool)).tolist()
    assert len(corners) == 8
    assert corners.count([1, 1]) == 2


@pytest.mark.parametrize("image_size", [(60, 60), (300, 141), (77, 1001), (20, 30)])
def test_a_contour_fits_its_box_and_area_at_any_scale(image_size: tuple[int, int]) -> None:
    plane = np.zeros((60, 60), np.float32)
    plane[11:30, 7:33] = 0.9
    plane[30:41, 20:25] = 0.7
    (region,) = regions_of(plane, 0.5, image_size)
    x, y, width, height = region.box
    xs, ys = zip(*region.contour, strict=True)
    assert 0 <= min(xs) - x < 1
    assert 0 <= min(ys) - y < 1
    assert 0 <= x + width - max(xs) < 1
    assert 0 <= y + height - max(ys) < 1
    # Corners are rounded to hundredths and the area to whole pixels.
    assert polygon_area(region.contour) == pytest.approx(region.area, abs=1 + sum(image_size) / 50)
    assert polygon_area(region.contour) == pytest.approx(region.area, rel=0.02)


def test_a_hole_is_not_in_the_area_but_within_the_contour() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[10:30, 10:30] = 0.8
    plane[18:22, 18:22] = 0
    (region,) = regions_of(plane, 0.5, (64, 64))
    assert region.area == 400 - 16
    assert polygon_area(region.contour) == 400
    assert region.mean == pytest.approx(0.8)
