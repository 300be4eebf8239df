"""The curves behind the metrics, thinned until a few hundred points draw them.

A curve without both normal and anomalous items is undefined and is None.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draem.evaluation.histograms import PixelHistograms
from draem.evaluation.metrics import DEFAULT_FPR_LIMIT
from draem.evaluation.ranking import Ranking, overlap_until, rank_images, rank_pixels
from draem.evaluation.result import Curve

MAX_POINTS = 500


def all_curves(
    scores: ArrayLike, labels: ArrayLike, histograms: PixelHistograms
) -> dict[str, Curve]:
    """Every curve that is defined, by name.

    The names are `image_roc`, `image_pr`, `pixel_roc`, `pixel_pr` and `pro`.

    Args:
        scores: (images,) finite numbers.
        labels: (images,) 0 normal, 1 anomalous.
        histograms: The counted pixels of the same images.

    Raises:
        InputError: Scores and labels do not match, a score is not finite or a label is not 0
            or 1.
    """
    images, pixels = rank_images(scores, labels), rank_pixels(histograms)
    curves = {
        "image_roc": roc_curve(images),
        "image_pr": pr_curve(images),
        "pixel_roc": roc_curve(pixels),
        "pixel_pr": pr_curve(pixels),
        "pro": pro_curve(histograms),
    }
    return {name: curve for name, curve in curves.items() if curve is not None}


def pro_curve(histograms: PixelHistograms, fpr_limit: float = DEFAULT_FPR_LIMIT) -> Curve | None:
    """Mean overlap with the true regions over the false-positive rate of pixels.

    Args:
        histograms: The counted pixels.
        fpr_limit: Where the curve ends, in (0, 1].

    Raises:
        InputError: The limit is not in (0, 1].
    """
    curve = overlap_until(histograms, fpr_limit)
    return None if curve is None else _thinned(curve.false_positive_rate, curve.overlap)


def roc_curve(ranking: Ranking | None) -> Curve | None:
    """True-positive rate over false-positive rate, from (0, 0) to (1, 1).

    Args:
        ranking: Of images or pixels; None if it is undefined.
    """
    if ranking is None:
        return None
    hits = np.concatenate([[0.0], ranking.true_positives])
    false_alarms = np.concatenate([[0.0], ranking.false_positives])
    return _thinned(false_alarms / false_alarms[-1], hits / hits[-1])


def pr_curve(ranking: Ranking | None) -> Curve | None:
    """Precision over recall, from recall 0 to 1.

    Args:
        ranking: Of images or pixels; None if it is undefined.
    """
    if ranking is None:
        return None
    hits = ranking.true_positives
    recall = np.concatenate([[0.0], hits / hits[-1]])
    precision = hits / (hits + ranking.false_positives)
    # At recall 0 no item is marked and precision is undefined; the curve starts level.
    return _thinned(recall, np.concatenate([precision[:1], precision]))


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> Curve:
    """Keep at most `MAX_POINTS` points at even steps along the curve, both ends included.

    The thinned curve stays within one such step of the whole one.
    """
    if len(x) <= MAX_POINTS:
        return Curve(x, y)
    steps = np.abs(np.diff(x)) / (x[-1] - x[0]) + np.abs(np.diff(y))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    stations = np.linspace(0.0, length[-1], MAX_POINTS)
    kept = np.unique(np.searchsorted(length, stations))
    return Curve(x[kept], y[kept])
