from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from draem.errors import InputError
from draem.evaluation.histograms import LEVELS, PixelHistograms, level_scores, score_levels
from draem.evaluation.metrics import all_metrics


def one_sample_of_every_octave(rng):
    near_zero = 2.0 ** rng.uniform(-140, 0, 200_000)
    return np.concatenate([near_zero, 1 - near_zero, rng.random(200_000)]).astype(np.float32)


def same(first, second):
    return (
        np.array_equal(first.normal, second.normal)
        and np.array_equal(first.anomalous, second.anomalous)
        and np.allclose(first.region_share, second.region_share, rtol=1e-12, atol=0)
        and first.regions == second.regions
    )


def test_levels_never_fall_as_scores_rise():
    scores = np.sort(one_sample_of_every_octave(np.random.default_rng(0)))
    assert (np.diff(score_levels(scores).astype(int)) >= 0).all()


def test_levels_never_fall_between_neighbouring_floats():
    for start in (2.0**-48, 2.0**-15, 2.0**-7, 0.25, 0.5, 0.75, 1 - 2.0**-13, 1 - 2.0**-12):
        bits = np.float32(start).view(np.int32) + np.arange(-50_000, 50_000, dtype=np.int32)
        levels = score_levels(np.minimum(bits.view(np.float32), 1)).astype(int)
        assert set(np.diff(levels)) <= {0, 1}, start


def test_levels_of_the_ends():
    ends = np.array([0.0, -0.0, 1e-45, np.nextafter(np.float32(1), np.float32(0)), 1], np.float32)
    assert score_levels(ends).tolist() == [0, 0, 0, LEVELS - 2, LEVELS - 1]


def test_every_float32_next_to_one_has_its_own_level():
    scores = 1 - np.arange(2048, dtype=np.float64) * 2.0**-24
    levels = score_levels(scores.astype(np.float32)).astype(int)
    assert (np.diff(levels) == -1).all()


def test_levels_keep_shape_and_accept_a_view():
    plane = np.random.default_rng(1).random((6, 8), dtype=np.float32)
    levels = score_levels(plane[:, ::2])
    assert levels.dtype == np.uint16
    assert np.array_equal(levels, score_levels(plane)[:, ::2])


def test_level_scores_rise_strictly_from_zero_to_one():
    scores = level_scores()
    assert scores.shape == (LEVELS,)
    assert (np.diff(scores) > 0).all()
    assert (scores[0], scores[-1]) == (0.0, 1.0)
    assert np.array_equal(scores, scores.astype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        scores[0] = 1


def test_the_score_of_a_level_is_its_lowest():
    scores = level_scores().astype(np.float32)
    assert np.array_equal(score_levels(scores), np.arange(LEVELS))
    just_below = np.nextafter(scores[1:], np.float32(-1))
    assert np.array_equal(score_levels(just_below), np.arange(LEVELS - 1))


def test_thresholding_scores_equals_thresholding_levels():
    rng = np.random.default_rng(2)
    scores = one_sample_of_every_octave(rng)
    levels = score_levels(scores)
    for level in rng.integers(1, LEVELS, 50):
        assert np.array_equal(scores >= level_scores()[level], levels >= level)


def test_update_counts_a_normal_image():
    plane = np.array([[0.0, 0.25], [0.25, 1.0]], np.float32)
    histograms = PixelHistograms.empty()
    histograms.update(plane, None)
    quarter = int(score_levels(np.float32([0.25]))[0])
    assert histograms.normal[[0, quarter, LEVELS - 1]].tolist() == [1, 2, 1]
    assert histograms.normal.sum() == 4
    assert (histograms.anomalous.sum(), histograms.region_share.sum(), histograms.regions) == (
        0,
        0,
        0,
    )


def test_update_weighs_regions_touching_at_corners_as_one():
    plane = np.array([[0.5, 0, 0, 1], [0, 0.5, 0, 0], [0, 0, 0, 0]], np.float32)
    mask = plane > 0
    histograms = PixelHistograms.empty()
    histograms.update(plane, mask)
    half = int(score_levels(np.float32([0.5]))[0])
    assert histograms.regions == 2
    assert histograms.anomalous[half] == 2
    assert histograms.region_share[half] == 1.0
    assert histograms.region_share[LEVELS - 1] == 1.0
    assert (histograms.normal[0], histograms.normal.sum()) == (9, 9)


def test_update_agrees_with_loops(blobs, softmax_map):
    rng = np.random.default_rng(3)
    mask = blobs(rng, 48, 6)
    plane = softmax_map(rng, mask)
    histograms = PixelHistograms.empty()
    histograms.update(plane, mask)

    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    share = np.zeros(LEVELS)
    for number in range(1, count + 1):
        for score in plane[labels == number]:
            share[score_levels(np.array([score]))[0]] += 1 / (labels == number).sum()
    assert histograms.regions == count
    np.testing.assert_allclose(histograms.region_share, share, rtol=1e-12)
    assert histograms.normal.sum() == (~mask).sum()
    assert histograms.anomalous.sum() == mask.sum()
    assert histograms.region_share.sum() == pytest.approx(count)


def test_update_takes_an_empty_mask_and_views(blobs, softmax_map):
    rng = np.random.default_rng(4)
    mask = blobs(rng, 32, 3)
    plane = softmax_map(rng, mask)
    normal, empty = PixelHistograms.empty(), PixelHistograms.empty()
    normal.update(plane, None)
    empty.update(plane, np.zeros_like(mask))
    assert same(normal, empty)

    turned, copied = PixelHistograms.empty(), PixelHistograms.empty()
    turned.update(plane.T, mask.T)
    copied.update(plane, mask)
    assert same(turned, copied)


def test_merging_and_order_do_not_matter(blobs, softmax_map, counted):
    rng = np.random.default_rng(5)
    masks = [blobs(rng, 32, 3) if index % 2 else None for index in range(12)]
    maps = [softmax_map(rng, np.zeros((32, 32), bool) if m is None else m) for m in masks]
    whole = counted(maps, masks)
    parts = counted(maps[:5], masks[:5]) + counted(maps[5:], masks[5:])
    assert same(whole, parts)
    assert same(whole, counted(maps[::-1], masks[::-1]))


def test_adding_changes_neither_side():
    plane = np.full((2, 2), 0.5, np.float32)
    first, second = PixelHistograms.empty(), PixelHistograms.empty()
    first.update(plane, None)
    second.update(plane, np.ones((2, 2), bool))
    total = first + second
    total.update(plane, None)
    assert first.normal.sum() == 4
    assert (second.normal.sum(), second.anomalous.sum(), second.regions) == (0, 4, 1)
    assert total.normal.sum() == 8


def test_memory_does_not_grow(blobs, softmax_map):
    rng = np.random.default_rng(6)
    mask = blobs(rng, 64, 4)
    plane = softmax_map(rng, mask)
    histograms = PixelHistograms.empty()
    histograms.update(plane, mask)
    size_after_one = histograms.nbytes
    tracemalloc.start()
    try:
        held_after_one = tracemalloc.get_traced_memory()[0]
        for _ in range(49):
            histograms.update(plane, mask)
        held_after_fifty = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert histograms.nbytes == size_after_one == 3 * 8 * LEVELS
    assert held_after_fifty - held_after_one < 64 * 1024


def most_allocated(work):
    work()  # imports and caches
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()


def test_a_small_image_costs_nothing_of_the_histograms_size(blobs, softmax_map):
    rng = np.random.default_rng(8)
    mask = blobs(rng, 32, 3)
    plane = softmax_map(rng, mask)
    histograms = PixelHistograms.empty()
    assert most_allocated(lambda: histograms.update(plane, mask)) < LEVELS


def test_a_large_image_is_counted_in_few_arrays(blobs, softmax_map):
    rng = np.random.default_rng(9)
    mask = blobs(rng, 512, 20)
    plane = softmax_map(rng, mask)
    histograms = PixelHistograms.empty()
    # Levels of a byte pair and of eight bytes a pixel, and what the defects' own pixels take.
    assert most_allocated(lambda: histograms.update(plane, mask)) < 24 * plane.size


def test_metrics_take_the_same_memory_for_any_number_of_images(blobs, softmax_map, counted):
    rng = np.random.default_rng(10)
    masks = [blobs(rng, 64, 3) for _ in range(40)]
    maps = [softmax_map(rng, mask) for mask in masks]
    few, many = counted(maps, masks), counted(maps * 10, masks * 10)
    taken = most_allocated(lambda: all_metrics([0, 1], [0, 1], few))
    assert most_allocated(lambda: all_metrics([0, 1], [0, 1], many)) < 1.01 * taken


def test_histograms_travel_between_processes(blobs, softmax_map):
    rng = np.random.default_rng(7)
    mask = blobs(rng, 32, 3)
    histograms = PixelHistograms.empty()
    histograms.update(softmax_map(rng, mask), mask)
    assert same(pickle.loads(pickle.dumps(histograms)), histograms)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1e-6, 1.0001])
def test_update_refuses_scores_outside_the_range(bad):
    plane = np.full((4, 4), 0.5, np.float32)
    plane[2, 1] = bad
    histograms = PixelHistograms.empty()
    with pytest.raises(InputError, match=r"numbers in \[0, 1\]"):
        histograms.update(plane, np.zeros((4, 4), bool))
    assert histograms.normal.sum() == 0


@pytest.mark.parametrize(
    "plane",
    [
        np.zeros(4, np.float32),
        np.zeros((1, 4, 4), np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((4, 4), np.uint8),
    ],
)
def test_update_refuses_what_is_not_a_plane_of_floats(plane):
    with pytest.raises(InputError, match="of shape \\(height, width\\)"):
        PixelHistograms.empty().update(plane, None)


@pytest.mark.parametrize("mask", [np.zeros((4, 5), bool), np.zeros((4, 4), np.uint8)])
def test_update_refuses_a_mask_that_does_not_fit(mask):
    with pytest.raises(InputError, match="does not fit the anomaly map"):
        PixelHistograms.empty().update(np.zeros((4, 4), np.float32), mask)
