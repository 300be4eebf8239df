"""How well scores part anomalous from normal: one number each, for images and for pixels.

A metric without both normal and anomalous items is undefined and is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draem.errors import InputError, RecipeError
from draem.evaluation.histograms import PixelHistograms
from draem.evaluation.ranking import Ranking, overlap_until, rank_images, rank_pixels
from draem.evaluation.result import MaskRule

DEFAULT_FPR_LIMIT = 0.30
STRICT_FPR_LIMIT = 0.05

_LOWEST_DEFECT_GREY: dict[MaskRule, int] = {"half": 128, "upstream": 255}


class F1Max(NamedTuple):
    """The best F1 over all thresholds.

    Attributes:
        f1: In (0, 1], or NaN.
        threshold: Scores at or above it count as anomalous; the highest such threshold, or NaN.
    """

    f1: float
    threshold: float


def image_auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve of images; ties count half.

    Args:
        scores: (images,) finite numbers.
        labels: (images,) 0 normal, 1 anomalous.

    Raises:
        InputError: The two do not match, a score is not finite or a label is not 0 or 1.

    Examples:
        >>> image_auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    return _auroc(rank_images(scores, labels))


def image_ap(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision of images: the step-wise sum that scikit-learn computes.

    Args:
        scores: (images,) finite numbers.
        labels: (images,) 0 normal, 1 anomalous.

    Raises:
        InputError: The two do not match, a score is not finite or a label is not 0 or 1.
    """
    return _average_precision(rank_images(scores, labels))


def image_f1_max(scores: ArrayLike, labels: ArrayLike) -> F1Max:
    """The best F1 of images over all thresholds.

    Args:
        scores: (images,) finite numbers.
        labels: (images,) 0 normal, 1 anomalous.

    Raises:
        InputError: The two do not match, a score is not finite or a label is not 0 or 1.

    Examples:
        >>> image_f1_max([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        F1Max(f1=0.8, threshold=0.35)
    """
    return _f1_max(rank_images(scores, labels))


def pixel_auroc(histograms: PixelHistograms) -> float:
    """Area under the ROC curve of pixels; pixels of one level are tied."""
    return _auroc(rank_pixels(histograms))


def pixel_ap(histograms: PixelHistograms) -> float:
    """Average precision of pixels; pixels of one level are tied."""
    return _average_precision(rank_pixels(histograms))


def pixel_f1_max(histograms: PixelHistograms) -> F1Max:
    """The best F1 of pixels over all levels, with the lowest score of the level as threshold."""
    return _f1_max(rank_pixels(histograms))


def aupro(histograms: PixelHistograms, fpr_limit: float = DEFAULT_FPR_LIMIT) -> float:
    """Area under the per-region overlap, up to a false-positive rate and divided by it.

    Each region counts the same regardless of its size. The false-positive rate is over all normal
    pixels, those of anomalous images included.

    Args:
        histograms: The counted pixels.
        fpr_limit: Where the integration ends, in (0, 1].

    Returns:
        In [0, 1]; NaN without a region or without a normal pixel.

    Raises:
        InputError: The limit is not in (0, 1].

    Source:
        Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 4.
    """
    curve = overlap_until(histograms, fpr_limit)
    if curve is None:
        return float("nan")
    return min(_area(curve.false_positive_rate, curve.overlap) / fpr_limit, 1.0)


def all_metrics(
    scores: ArrayLike, labels: ArrayLike, histograms: PixelHistograms
) -> dict[str, float]:
    """Every metric by name, images first.

    Args:
        scores: (images,) finite numbers.
        labels: (images,) 0 normal, 1 anomalous.
        histograms: The counted pixels of the same images.

    Returns:
        Name to value, in the order in which reports show them.

    Raises:
        InputError: Scores and labels do not match, a score is not finite or a label is not 0
            or 1.
    """
    images = rank_images(scores, labels)
    pixels = rank_pixels(histograms)
    metrics = {
        "image_auroc": _auroc(images),
        "image_ap": _average_precision(images),
        "image_f1_max": _f1_max(images).f1,
        "pixel_auroc": _auroc(pixels),
        "pixel_ap": _average_precision(pixels),
        "pixel_f1_max": _f1_max(pixels).f1,
    }
    for fpr_limit in (DEFAULT_FPR_LIMIT, STRICT_FPR_LIMIT):
        metrics[f"aupro_{fpr_limit:.2f}"] = aupro(histograms, fpr_limit)
    return metrics


def binarize_mask(grey: NDArray[np.uint8], rule: MaskRule) -> NDArray[np.bool_]:
    """Make a grey mask true or false.

    Args:
        grey: (height, width) uint8; between 0 and 255 where resizing blurred an edge.
        rule: `half` takes 128 and more, `upstream` takes 255 alone.

    Returns:
        (height, width) bool, the defect pixels.

    Raises:
        InputError: The mask is not a uint8 plane.
        RecipeError: The rule is unknown.

    Source:
        `upstream`: github.com/VitjanZ/DRAEM, test_DRAEM.py, which casts the resized mask in
        [0, 1] to uint8.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8:
        raise InputError(
            "the true mask cannot be used",
            expected="uint8 of shape (height, width)",
            found=f"{grey.dtype} of shape {grey.shape}",
        )
    if rule not in _LOWEST_DEFECT_GREY:
        raise RecipeError("the mask rule is unknown", expected="half or upstream", found=repr(rule))
    return np.greater_equal(grey, _LOWEST_DEFECT_GREY[rule])


def _auroc(ranking: Ranking | None) -> float:
    if ranking is None:
        return float("nan")
    hits = np.concatenate([[0.0], ranking.true_positives])
    false_alarms = np.concatenate([[0.0], ranking.false_positives])
    return _area(false_alarms / false_alarms[-1], hits / hits[-1])


def _average_precision(ranking: Ranking | None) -> float:
    if ranking is None:
        return float("nan")
    hits = ranking.true_positives
    precision = hits / (hits + ranking.false_positives)
    return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1])


def _f1_max(ranking: Ranking | None) -> F1Max:
    if ranking is None:
        return F1Max(float("nan"), float("nan"))
    hits = ranking.true_positives
    f1 = 2 * hits / (hits + ranking.false_positives + hits[-1])
    best = int(np.argmax(f1))
    return F1Max(float(f1[best]), float(ranking.thresholds[best]))


def _area(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)
