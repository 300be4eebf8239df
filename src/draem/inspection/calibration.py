"""Thresholds with a finite-sample guarantee, from good images alone.

Source:
    Split-conformal prediction: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World,
    2005; Lei et al., Distribution-Free Predictive Inference for Regression, JASA 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError
from draem.inspection.guarantee import rank, smallest_rate
from draem.model_card import HIGHEST_SCORE, LOWEST_SCORE, Calibration

Decision = Literal["pass", "review", "reject"]

_MARGIN = 1e-5
"""Relative to the score: more than rounding makes of one image in batches of different sizes."""


def check_rates(
    false_reject_rate: float,
    review_rate: float | None = None,
    pixel_false_positive_rate: float | None = None,
) -> None:
    """Refuse rates that mean nothing for any number of images.

    Raises:
        InputError: A rate is out of range, or the review rate is not above the false-reject rate.
    """
    if not 0 < false_reject_rate < 1:
        raise InputError(
            "the false-reject rate is out of range",
            expected="a share between 0 and 1, such as 0.01",
            found=f"{false_reject_rate}",
        )
    if review_rate is not None and not false_reject_rate < review_rate < 1:
        raise InputError(
            "the review rate is out of range",
            expected=f"a share above the false-reject rate, {false_reject_rate:g}, and below 1",
            found=f"{review_rate}",
            hint="It bounds all good parts that do not pass, those rejected among them",
        )
    if pixel_false_positive_rate is not None and not 0 <= pixel_false_positive_rate < 1:
        raise InputError(
            "the pixels' false-positive rate is out of range",
            expected="a share of an image's pixels from 0 to below 1, such as 0.001",
            found=f"{pixel_false_positive_rate}",
        )


def calibrate(
    scores: Sequence[float],
    false_reject_rate: float,
    *,
    groups: Sequence[int] | NDArray[np.int64] | None = None,
    review_rate: float | None = None,
    pixel_levels: Sequence[float] | None = None,
    pixel_false_positive_rate: float | None = None,
) -> Calibration:
    """Find the threshold that rejects at most a given share of good images.

    For a new good image, exchangeable with the calibration images, the probability of a score at
    or above the threshold is at most the rate, for any distribution of the scores. This is an
    average over calibration sets: what one threshold rejects varies, the more the fewer images.

    Images of one part are no further evidence of other parts. With groups, each group gives one
    score, its highest, and the number of groups takes the place of the number of images. What is
    promised then is more: for a new good part, exchangeable with those of the groups and
    photographed as often, the probability that any of its pictures reaches the threshold is at
    most the rate.

    Args:
        scores: Scores of good images that the model was not trained on.
        false_reject_rate: In (0, 1). If it is smaller than `smallest_rate`, that is taken.
        groups: The group of each image, all pictures of one part; each image is one if omitted.
        review_rate: The rate of a second, lower threshold; none if omitted.
        pixel_levels: Each image's `pixel_level`, for a pixel threshold; none if omitted.
        pixel_false_positive_rate: What the levels were taken at.

    Raises:
        InputError: There are no scores, one is not between 0 and 1, or a rate is out of range.
    """
    check_rates(false_reject_rate, review_rate, pixel_false_positive_rate)
    images = len(scores)
    if images == 0:
        raise InputError("a threshold needs the scores of at least one good image")
    by_pixels = pixel_levels is not None
    if groups is not None:
        scores = _highest(scores, groups)
        pixel_levels = None if pixel_levels is None else _highest(pixel_levels, groups)
    rate = max(false_reject_rate, smallest_rate(len(scores)))
    check_rates(rate, review_rate)
    return Calibration(
        threshold=_bound(scores, rate),
        false_reject_rate=rate,
        images=images,
        groups=len(scores) if len(scores) < images else None,
        review_threshold=None if review_rate is None else _bound(scores, review_rate),
        review_rate=review_rate,
        pixel_threshold=_bound(pixel_levels, rate) if pixel_levels is not None else None,
        pixel_false_positive_rate=pixel_false_positive_rate if by_pixels else None,
    )


def pixel_level(anomaly_map: NDArray[np.float32], pixel_false_positive_rate: float) -> float:
    """The highest threshold at which more than a share of the map's pixels is marked.

    A map value is marked at or above a pixel threshold. So a threshold marks more than the share
    exactly where this level is at or above it, as a score is at or above the image threshold.

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        pixel_false_positive_rate: The share of its pixels, in [0, 1).

    Example:
        >>> pixel_level(np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), 0.25).__round__(6)
        0.3
    """
    # The tolerance keeps 0.29 * 100 from counting as 28.
    allowed = math.floor(pixel_false_positive_rate * anomaly_map.size + 1e-6)
    place = anomaly_map.size - 1 - min(allowed, anomaly_map.size - 1)
    return float(np.partition(anomaly_map, place, axis=None)[place])


def decide(score: float, calibration: Calibration | None) -> Decision | None:
    """What becomes of an image with such a score; None without a threshold.

    Example:
        >>> decide(0.5, Calibration(threshold=0.5, false_reject_rate=0.05, images=19))
        'reject'
    """
    if calibration is None:
        return None
    return decide_at(score, calibration.threshold, calibration.review_threshold)


def decide_at(score: float, threshold: float, review_threshold: float | None = None) -> Decision:
    """What becomes of an image with such a score at these thresholds."""
    if score >= threshold:
        return "reject"
    return "review" if review_threshold is not None and score >= review_threshold else "pass"


def _highest(values: Sequence[float], groups: Sequence[int] | NDArray[np.int64]) -> list[float]:
    """The highest value of each group."""
    names, places = np.unique(groups, return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, places, values)
    return [float(value) for value in highest]


def _bound(values: Sequence[float], rate: float) -> float:
    """The threshold that a new value reaches with a probability of at most the rate."""
    if not np.isfinite(values).all():
        raise InputError(
            "a threshold cannot be found from scores that are not finite",
            hint="Check that the model's weights are finite",
        )
    if min(values) < LOWEST_SCORE or max(values) > HIGHEST_SCORE:
        raise InputError(
            "a threshold cannot be found from scores that are not between 0 and 1",
            found=f"{min(values):g} to {max(values):g}",
        )
    bound = np.float32(max(0, sorted(values)[rank(len(values), rate) - 1]))
    # "At or above the threshold" means "above the bound". The margin is for the last digits, which
    # differ between batches and runtimes, so that the bounding image itself is never rejected.
    return float(np.nextafter(bound * np.float32(1 + _MARGIN), np.float32(np.inf)))
