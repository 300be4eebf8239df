from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from draem.errors import InputError, RecipeError
from draem.evaluation import metrics
from draem.evaluation.curves import pro_curve
from draem.evaluation.histograms import PixelHistograms
from tests.reference.aupro import slow_aupro


def logistic(values):
    return 1 / (1 + np.exp(-values))


def random_scores(rng, normal, anomalous):
    return rng.random(normal), np.sqrt(rng.random(anomalous))


def tied_scores(rng, normal, anomalous):
    return rng.integers(0, 6, normal) / 8, rng.integers(2, 9, anomalous) / 8


def softmax_scores(rng, normal, anomalous):
    return logistic(rng.normal(-14, 6, normal)), logistic(rng.normal(3, 6, anomalous))


def overlapping_softmax_scores(rng, normal, anomalous):
    return logistic(rng.normal(0, 6, normal)), logistic(rng.normal(8, 6, anomalous))


def saturated_scores(rng, normal, anomalous):
    return logistic(rng.normal(8, 3, normal)), logistic(rng.normal(14, 3, anomalous))


def low_scores(rng, normal, anomalous):
    return rng.beta(2, 100, normal), rng.beta(4, 40, anomalous)


def scores_with_extremes(rng, normal, anomalous):
    extremes = np.array([0.0, 1e-14, 1e-10, 1e-7, 0.5, 1 - 1e-6, 1 - 6e-8, 1.0])
    return rng.choice(extremes[:-1], normal), rng.choice(extremes[1:], anomalous)


DISTRIBUTIONS = [
    random_scores,
    tied_scores,
    softmax_scores,
    overlapping_softmax_scores,
    saturated_scores,
    low_scores,
    scores_with_extremes,
]


def sklearn_f1_max(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    total = precision + recall
    return float(np.max(2 * precision * recall / np.where(total > 0, total, 1)))


def draw(distribution, normal, anomalous, seed=0):
    rng = np.random.default_rng(seed)
    scores = np.concatenate(distribution(rng, normal, anomalous)).astype(np.float32)
    labels = np.concatenate([np.zeros(normal, int), np.ones(anomalous, int)])
    return scores, labels


def pixels(scores, labels):
    histograms = PixelHistograms.empty()
    histograms.update(scores[None], labels[None].astype(bool))
    return histograms


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_pixel_metrics_agree_with_scikit_learn(distribution):
    scores, labels = draw(distribution, 200_000, 8_000)
    histograms = pixels(scores, labels)
    tolerance = {"abs": 1e-4, "rel": 0}
    assert metrics.pixel_auroc(histograms) == pytest.approx(
        roc_auc_score(labels, scores), **tolerance
    )
    assert metrics.pixel_ap(histograms) == pytest.approx(
        average_precision_score(labels, scores), **tolerance
    )
    best = metrics.pixel_f1_max(histograms)
    assert best.f1 == pytest.approx(sklearn_f1_max(labels, scores), **tolerance)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_image_metrics_agree_with_scikit_learn_exactly(distribution):
    for seed in range(20):
        scores, labels = draw(distribution, 41, 119, seed)
        assert metrics.image_auroc(scores, labels) == pytest.approx(
            roc_auc_score(labels, scores), abs=1e-12
        )
        assert metrics.image_ap(scores, labels) == pytest.approx(
            average_precision_score(labels, scores), abs=1e-12
        )
        best = metrics.image_f1_max(scores, labels)
        assert best.f1 == pytest.approx(sklearn_f1_max(labels, scores), abs=1e-12)


def test_image_scores_closer_than_float32_are_told_apart():
    assert metrics.image_auroc([0.5, 0.5 + 1e-12], [0, 1]) == 1.0


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_best_threshold_gives_the_best_f1(distribution):
    scores, labels = draw(distribution, 5_000, 700)
    for best in (
        metrics.pixel_f1_max(pixels(scores, labels)),
        metrics.image_f1_max(scores, labels),
    ):
        marked = scores >= np.float64(best.threshold)
        hits = np.count_nonzero(marked & (labels == 1))
        assert 2 * hits / (marked.sum() + 700) == pytest.approx(best.f1, abs=1e-12)


def test_values_derived_by_hand():
    # Falling scores: anomalous, normal and anomalous tied, normal.
    scores, labels = [0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0]
    # Pairs: 0.9 beats both normals, the tied one wins 1/2 and 1: 3.5 of 4.
    assert metrics.image_auroc(scores, labels) == 3.5 / 4
    # Half of the recall at precision 1, the other half at precision 2/3.
    assert metrics.image_ap(scores, labels) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # At 0.5: precision 2/3, recall 1; at 0.9: precision 1, recall 1/2.
    assert metrics.image_f1_max(scores, labels) == (0.8, 0.5)


def test_aupro_derived_by_hand():
    # Ten normal pixels; a region of one pixel and one of two.
    plane = np.array([[0.9, 0.8, 0, 0.7, 0.6, 0, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]], np.float32)
    mask = np.zeros((1, 13), bool)
    mask[0, [0, 3, 4]] = True
    histograms = PixelHistograms.empty()
    histograms.update(plane, mask)
    # Points, a threshold at a time: 0.9 (0, 1/2); 0.8 (0.1, 1/2); 0.7 (0.1, 3/4); 0.6 (0.1, 1);
    # 0.2 (0.2, 1); 0.1 (0.8, 1); 0 (1, 1).
    assert metrics.aupro(histograms, 0.3) == pytest.approx((0.1 * 0.5 + 0.2) / 0.3)
    assert metrics.aupro(histograms, 0.05) == pytest.approx(0.5)
    assert metrics.aupro(histograms, 1.0) == pytest.approx(0.05 + 0.9)


def test_aupro_interpolates_at_the_limit():
    # The points are (0, 0), (1/4, 0), (1, 1): at 0.3 the overlap is 0.05 / 0.75 = 1/15.
    plane = np.array([[0.9, 0.5, 0.5, 0.5, 0.5]], np.float32)
    histograms = PixelHistograms.empty()
    histograms.update(plane, np.array([[False, True, False, False, False]]))
    assert metrics.aupro(histograms, 0.3) == pytest.approx(0.05 / 15 / 2 / 0.3)


@pytest.mark.parametrize("fpr_limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_aupro_agrees_with_its_definition(blobs, softmax_map, counted, fpr_limit, decimals):
    rng = np.random.default_rng(decimals)
    masks = [blobs(rng, 24, 4) for _ in range(3)] + [np.zeros((24, 24), bool)] * 2
    maps = [np.round(softmax_map(rng, mask), decimals) for mask in masks]
    histograms = counted(maps, [mask if mask.any() else None for mask in masks])
    slow = slow_aupro(maps, masks, fpr_limit)
    assert 0 < slow < 1
    assert metrics.aupro(histograms, fpr_limit) == pytest.approx(slow, abs=1e-4)


def test_aupro_of_untied_maps_agrees_with_its_definition(blobs, softmax_map, counted):
    rng = np.random.default_rng(11)
    masks = [blobs(rng, 32, 4) for _ in range(2)]
    maps = [softmax_map(rng, mask) for mask in masks]
    histograms = counted(maps, masks)
    assert metrics.aupro(histograms) == pytest.approx(slow_aupro(maps, masks, 0.3), abs=1e-4)


def test_aupro_and_its_curve_are_never_above_one():
    rng = np.random.default_rng(12)
    for _ in range(60):
        height, width = (int(v) for v in rng.integers(3, 30, 2))
        mask = rng.random((height, width)) < rng.uniform(0.02, 0.6)
        mask[0, 0], mask[-1, -1] = True, False
        gap = rng.uniform(0, 0.5)
        plane = np.where(
            mask, rng.uniform(0.5 + gap, 1, mask.shape), rng.uniform(0, 0.5, mask.shape)
        )
        histograms = PixelHistograms.empty()
        histograms.update(plane.astype(np.float32), mask)
        for fpr_limit in (1e-6, 0.05, 0.1, 0.3, 1 / 3, 1.0):
            assert 1 - 1e-12 <= metrics.aupro(histograms, fpr_limit) <= 1.0
            assert pro_curve(histograms, fpr_limit).y.max() <= 1.0


def limiting_case(kind):
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = mask[10:12, 3:9] = True
    plane = {
        "perfect": np.where(mask, 1.0, 0.0),
        "inverted": np.where(mask, 0.0, 1.0),
        "constant": np.full(mask.shape, 0.3),
    }[kind]
    histograms = PixelHistograms.empty()
    histograms.update(plane.astype(np.float32), mask)
    return histograms, mask.mean()


def test_perfect_maps():
    histograms, _ = limiting_case("perfect")
    found = metrics.all_metrics([0.1, 0.9], [0, 1], histograms)
    assert all(value == pytest.approx(1.0, abs=1e-12) for value in found.values())
    assert metrics.pixel_f1_max(histograms).threshold == 1.0


def test_inverted_maps():
    histograms, share = limiting_case("inverted")
    assert metrics.pixel_auroc(histograms) == 0
    assert metrics.pixel_ap(histograms) == pytest.approx(share)
    assert metrics.aupro(histograms) == 0
    assert metrics.image_auroc([0.9, 0.1], [0, 1]) == 0


def test_constant_maps():
    histograms, share = limiting_case("constant")
    assert metrics.pixel_auroc(histograms) == 0.5
    assert metrics.pixel_ap(histograms) == pytest.approx(share)
    assert metrics.pixel_f1_max(histograms).f1 == pytest.approx(2 * share / (1 + share))
    # The curve is the diagonal: a triangle of area 0.3 * 0.3 / 2, over 0.3.
    assert metrics.aupro(histograms, 0.3) == pytest.approx(0.15)


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_alone_leaves_every_metric_undefined(label):
    histograms = PixelHistograms.empty()
    histograms.update(np.full((4, 4), 0.5, np.float32), np.full((4, 4), bool(label)))
    found = metrics.all_metrics([0.2, 0.3], [label, label], histograms)
    assert all(math.isnan(value) for value in found.values())
    assert math.isnan(metrics.pixel_f1_max(histograms).threshold)


def test_nothing_at_all_leaves_every_metric_undefined():
    found = metrics.all_metrics([], [], PixelHistograms.empty())
    assert all(math.isnan(value) for value in found.values())


def test_all_metrics_names_and_values():
    scores, labels = draw(softmax_scores, 3_000, 400)
    histograms = pixels(scores, labels)
    found = metrics.all_metrics(scores, labels, histograms)
    assert found == {
        "image_auroc": metrics.image_auroc(scores, labels),
        "image_ap": metrics.image_ap(scores, labels),
        "image_f1_max": metrics.image_f1_max(scores, labels).f1,
        "pixel_auroc": metrics.pixel_auroc(histograms),
        "pixel_ap": metrics.pixel_ap(histograms),
        "pixel_f1_max": metrics.pixel_f1_max(histograms).f1,
        "aupro_0.30": metrics.aupro(histograms, 0.30),
        "aupro_0.05": metrics.aupro(histograms, 0.05),
    }
    assert list(found) == [
        *("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max"),
        *("aupro_0.30", "aupro_0.05"),
    ]
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("fpr_limit", [0.0, -0.1, 1.1, float("nan")])
def test_aupro_refuses_a_limit_out_of_range(fpr_limit):
    with pytest.raises(InputError, match="fpr_limit"):
        metrics.aupro(PixelHistograms.empty(), fpr_limit)


@pytest.mark.parametrize(
    ("scores", "labels", "problem"),
    [
        ([0.1, 0.2], [0], "do not match"),
        ([[0.1, 0.2]], [[0, 1]], "do not match"),
        ([0.1, float("nan")], [0, 1], "not finite"),
        ([0.1, float("inf")], [0, 1], "not finite"),
        ([0.1, 0.2], [0, 2], r"labels \[0, 2\]"),
        ([0.1, 0.2], ["good", "bent"], r"labels \['bent', 'good'\]"),
    ],
)
def test_image_metrics_refuse_unusable_input(scores, labels, problem):
    with pytest.raises(InputError, match=problem):
        metrics.image_auroc(scores, labels)


def test_image_labels_may_be_bool():
    assert metrics.image_auroc([0.1, 0.2], [False, True]) == 1.0


def test_binarize_mask_follows_the_rule():
    grey = np.array([[0, 1, 127, 128, 254, 255]], np.uint8)
    assert metrics.binarize_mask(grey, "half").tolist() == [[False] * 3 + [True] * 3]
    assert metrics.binarize_mask(grey, "upstream").tolist() == [[False] * 5 + [True]]


def test_binarize_mask_upstream_equals_the_published_arithmetic():
    grey = np.arange(256, dtype=np.uint8)[None]
    published = (grey.astype(np.float32) / 255.0).astype(np.uint8)
    assert np.array_equal(metrics.binarize_mask(grey, "upstream"), published == 1)


def test_binarize_mask_refuses_what_it_cannot_use():
    with pytest.raises(RecipeError, match="half or upstream"):
        metrics.binarize_mask(np.zeros((2, 2), np.uint8), "most")
    with pytest.raises(InputError, match="uint8"):
        metrics.binarize_mask(np.zeros((2, 2), np.float32), "half")
    with pytest.raises(InputError, match="height, width"):
        metrics.binarize_mask(np.zeros((2, 2, 3), np.uint8), "half")
