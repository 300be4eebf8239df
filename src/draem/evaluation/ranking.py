"""What every threshold lets through, from the highest score down; shared by metrics and curves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draem.errors import InputError
from draem.evaluation.histograms import PixelHistograms, level_scores


class Ranking(NamedTuple):
    """Distinct scores as thresholds, and what is at or above each.

    Attributes:
        thresholds: (thresholds,) float64, strictly falling.
        true_positives: (thresholds,) float64, whole numbers that never fall; the last one
            counts every anomalous item and is at least 1.
        false_positives: (thresholds,) float64, the same for normal items.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.float64]
    false_positives: NDArray[np.float64]


class OverlapCurve(NamedTuple):
    """Mean overlap with the true regions against the share of normal pixels marked.

    Attributes:
        false_positive_rate: (points,) float64, never falling, from 0 to the limit.
        overlap: (points,) float64 in [0, 1], never falling, from 0.
    """

    false_positive_rate: NDArray[np.float64]
    overlap: NDArray[np.float64]


def rank_pixels(histograms: PixelHistograms) -> Ranking | None:
    """Rank pixels by the level of their score; None without both kinds of pixels."""
    occupied = _occupied_levels(histograms)
    return _ranking(
        level_scores()[occupied], histograms.normal[occupied], histograms.anomalous[occupied]
    )


def rank_images(scores: ArrayLike, labels: ArrayLike) -> Ranking | None:
    """Rank images by their exact score; None without both kinds of images.

    Args:
        scores: (images,) finite numbers.
        labels: (images,) 0 normal, 1 anomalous.

    Raises:
        InputError: The two do not match, a score is not finite or a label is not 0 or 1.
    """
    score_array = np.asarray(scores, dtype=np.float64)
    label_array = np.asarray(labels)
    _check_images(score_array, label_array)
    if score_array.size == 0:
        return None
    thresholds, position = np.unique(score_array, return_inverse=True)
    is_anomalous = label_array.astype(np.bool_)
    normal = np.bincount(position[~is_anomalous], minlength=len(thresholds))
    anomalous = np.bincount(position[is_anomalous], minlength=len(thresholds))
    return _ranking(thresholds[::-1], normal[::-1], anomalous[::-1])


def overlap_until(histograms: PixelHistograms, fpr_limit: float) -> OverlapCurve | None:
    """The per-region overlap up to a false-positive rate, interpolated linearly at its end.

    Args:
        histograms: The counted pixels.
        fpr_limit: In (0, 1].

    Returns:
        The curve, from (0, 0); None without a region or without a normal pixel.

    Raises:
        InputError: The limit is not in (0, 1].
    """
    if not 0 < fpr_limit <= 1:
        raise InputError(
            "fpr_limit is out of range", expected="a number in (0, 1]", found=f"{fpr_limit:g}"
        )
    normal_pixels = int(histograms.normal.sum())
    if histograms.regions == 0 or normal_pixels == 0:
        return None
    occupied = _occupied_levels(histograms)
    rate = _from_zero(np.cumsum(histograms.normal[occupied]) / normal_pixels)
    overlap = _from_zero(np.cumsum(histograms.region_share[occupied]) / histograms.regions)
    # The weights of a region sum to one only up to rounding.
    overlap = np.minimum(overlap, 1.0)
    inside = int(np.searchsorted(rate, fpr_limit))  # points below the limit
    step = (fpr_limit - rate[inside - 1]) / (rate[inside] - rate[inside - 1])
    end = overlap[inside - 1] + step * (overlap[inside] - overlap[inside - 1])
    return OverlapCurve(np.append(rate[:inside], fpr_limit), np.append(overlap[:inside], end))


def _occupied_levels(histograms: PixelHistograms) -> NDArray[np.intp]:
    return np.flatnonzero(histograms.normal + histograms.anomalous)[::-1]


def _from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], values])


def _ranking(
    thresholds: NDArray[np.float64], normal: NDArray[np.int64], anomalous: NDArray[np.int64]
) -> Ranking | None:
    if not normal.any() or not anomalous.any():
        return None
    return Ranking(
        thresholds,
        np.cumsum(anomalous).astype(np.float64),
        np.cumsum(normal).astype(np.float64),
    )


def _check_images(scores: NDArray[np.float64], labels: NDArray[np.generic]) -> None:
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise InputError(
            "image scores and labels do not match",
            expected="two arrays of shape (images,)",
            found=f"shapes {scores.shape} and {labels.shape}",
        )
    if not np.isfinite(scores).all():
        raise InputError(
            "an image score is not finite",
            expected="finite numbers",
            found=f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} that are not",
            hint="Check that the model's weights and its input are finite",
        )
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise InputError(
            "an image label is unknown",
            expected="0 for normal and 1 for anomalous",
            found=f"labels {np.unique(labels)[:5].tolist()}",
        )
