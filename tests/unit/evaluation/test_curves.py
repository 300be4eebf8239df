from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from draem.errors import InputError
from draem.evaluation import curves, metrics
from draem.evaluation.histograms import PixelHistograms
from draem.evaluation.ranking import rank_images, rank_pixels
from tests.reference.aupro import slow_pro_points


def area(curve):
    return float(np.sum(np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2))


def distance_to(curve, points):
    """The largest distance from the points to the polyline through the curve."""
    start = np.stack([curve.x[:-1], curve.y[:-1]], axis=1)
    along = np.stack([np.diff(curve.x), np.diff(curve.y)], axis=1)
    squared = np.maximum((along**2).sum(axis=1), 1e-30)
    worst = 0.0
    for point in points:
        step = np.clip(((point - start) * along).sum(axis=1) / squared, 0, 1)
        nearest = start + step[:, None] * along
        worst = max(worst, np.sqrt(((nearest - point) ** 2).sum(axis=1).min()))
    return worst


@pytest.fixture
def many_pixels(softmax_map):
    rng = np.random.default_rng(0)
    mask = np.zeros((300, 300), bool)
    mask[20:70, 20:80] = mask[200:204, 100:250] = mask[280, 280] = True
    plane = softmax_map(rng, mask)
    histograms = PixelHistograms.empty()
    histograms.update(plane, mask)
    return plane, mask, histograms


def check_form(curve, end):
    assert 2 <= len(curve.x) <= curves.MAX_POINTS
    assert curve.x.dtype == curve.y.dtype == np.float64
    assert (np.diff(curve.x) >= 0).all()
    assert (curve.x[0], curve.x[-1]) == (0.0, end)
    assert 0 <= curve.y.min() <= curve.y.max() <= 1


def test_image_curves_hold_every_threshold():
    scores, labels = [0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0]
    roc = curves.roc_curve(rank_images(scores, labels))
    assert roc.x.tolist() == [0, 0, 0.5, 1]
    assert roc.y.tolist() == [0, 0.5, 1, 1]
    precision_recall = curves.pr_curve(rank_images(scores, labels))
    assert precision_recall.x.tolist() == [0, 0.5, 1, 1]
    assert precision_recall.y.tolist() == [1, 1, 2 / 3, 0.5]


def test_image_curves_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    labels = (rng.random(160) < 0.7).astype(int)
    scores = np.round(rng.normal(labels, 1.0), 1)
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    ours = curves.roc_curve(rank_images(scores, labels))
    np.testing.assert_allclose(ours.x, false_alarms)
    np.testing.assert_allclose(ours.y, hits)
    precision, recall, _ = precision_recall_curve(labels, scores)
    ours = curves.pr_curve(rank_images(scores, labels))
    np.testing.assert_allclose(ours.x[1:], recall[-2::-1])
    np.testing.assert_allclose(ours.y[1:], precision[-2::-1])


def test_the_area_below_the_image_roc_curve_is_the_auroc():
    rng = np.random.default_rng(2)
    labels = np.arange(200) % 2
    scores = rng.normal(labels, 1.0)
    assert area(curves.roc_curve(rank_images(scores, labels))) == pytest.approx(
        metrics.image_auroc(scores, labels), abs=1e-12
    )


def test_thinned_pixel_curves_keep_their_shape(many_pixels):
    plane, mask, histograms = many_pixels
    rng = np.random.default_rng(3)

    roc = curves.roc_curve(rank_pixels(histograms))
    check_form(roc, 1.0)
    assert area(roc) == pytest.approx(metrics.pixel_auroc(histograms), abs=2e-3)
    false_alarms, hits, _ = roc_curve(mask.ravel(), plane.ravel())
    chosen = rng.choice(len(hits), min(1000, len(hits)), replace=False)
    assert distance_to(roc, np.stack([false_alarms, hits], axis=1)[chosen]) < 2 / 499 + 1e-3

    precision_recall = curves.pr_curve(rank_pixels(histograms))
    check_form(precision_recall, 1.0)
    precision, recall, _ = precision_recall_curve(mask.ravel(), plane.ravel())
    chosen = rng.choice(len(recall) - 1, 1000, replace=False)
    whole = np.stack([recall, precision], axis=1)
    assert distance_to(precision_recall, whole[chosen]) < 0.01


def test_the_pro_curve_ends_at_its_limit_and_gives_the_aupro(many_pixels):
    _, _, histograms = many_pixels
    for fpr_limit in (0.3, 0.05):
        curve = curves.pro_curve(histograms, fpr_limit)
        check_form(curve, fpr_limit)
        assert (np.diff(curve.y) >= 0).all()
        assert area(curve) / fpr_limit == pytest.approx(
            metrics.aupro(histograms, fpr_limit), abs=3e-3
        )


def test_the_pro_curve_agrees_with_its_definition(blobs, softmax_map):
    rng = np.random.default_rng(4)
    mask = blobs(rng, 24, 4)
    plane = np.round(softmax_map(rng, mask), 1)
    histograms = PixelHistograms.empty()
    histograms.update(plane, mask)
    curve = curves.pro_curve(histograms, 1.0)
    np.testing.assert_allclose(
        np.stack([curve.x, curve.y], axis=1), slow_pro_points([plane], [mask]), atol=1e-12
    )


def test_a_limit_on_a_threshold_needs_no_interpolation():
    plane = np.array([[0.9, 0.8, 0.2, 0.1, 0.1]], np.float32)
    histograms = PixelHistograms.empty()
    histograms.update(plane, np.array([[True, False, False, False, False]]))
    curve = curves.pro_curve(histograms, 0.25)
    assert curve.x.tolist() == [0, 0, 0.25]
    assert curve.y.tolist() == [0, 1, 1]


def test_a_long_straight_stretch_survives_thinning():
    rng = np.random.default_rng(5)
    mask = np.zeros((100, 200), bool)
    mask[:10] = True
    plane = np.where(mask, rng.uniform(0.5, 1, mask.shape), 0.0)
    plane[10:20] = rng.uniform(0.5, 1, (10, 200))
    histograms = PixelHistograms.empty()
    histograms.update(plane.astype(np.float32), mask)
    roc = curves.roc_curve(rank_pixels(histograms))
    check_form(roc, 1.0)
    corner = np.array([[1 / 9, 1.0]])
    assert distance_to(roc, corner) < 2 / 499


def test_thinning_spends_its_points_where_the_curve_is_long():
    # 20,000 levels that hardly move the curve, then a bow of 200 levels that is nearly all of it.
    histograms = PixelHistograms.empty()
    histograms.normal[-20_000:] = histograms.anomalous[-20_000:] = 1
    histograms.normal[200:0:-1] = 100 * np.arange(200) ** 2
    histograms.anomalous[1:201] = 100 * np.arange(200) ** 2
    roc = curves.roc_curve(rank_pixels(histograms))
    check_form(roc, 1.0)
    false_alarms = np.cumsum(histograms.normal[::-1]) / histograms.normal.sum()
    hits = np.cumsum(histograms.anomalous[::-1]) / histograms.anomalous.sum()
    whole = np.stack([false_alarms, hits], axis=1)[-400:]
    assert distance_to(roc, whole) < 2 / 499


def test_undefined_curves_are_none():
    histograms = PixelHistograms.empty()
    histograms.update(np.full((4, 4), 0.5, np.float32), None)
    assert curves.roc_curve(rank_images([0.1], [0])) is None
    assert curves.pr_curve(rank_images([], [])) is None
    assert curves.roc_curve(rank_pixels(histograms)) is None
    assert curves.pr_curve(rank_pixels(histograms)) is None
    assert curves.pro_curve(histograms) is None


def test_all_curves_leaves_out_what_is_undefined(many_pixels):
    _, _, histograms = many_pixels
    found = curves.all_curves([0.1, 0.9], [0, 1], histograms)
    assert list(found) == ["image_roc", "image_pr", "pixel_roc", "pixel_pr", "pro"]
    assert np.array_equal(found["pro"].y, curves.pro_curve(histograms, 0.3).y)
    assert list(curves.all_curves([0.1], [0], histograms)) == ["pixel_roc", "pixel_pr", "pro"]
    assert curves.all_curves([], [], PixelHistograms.empty()) == {}


def test_the_pro_curve_refuses_a_limit_out_of_range():
    with pytest.raises(InputError, match="fpr_limit"):
        curves.pro_curve(PixelHistograms.empty(), 0)
