"""Thresholds with a finite-sample guarantee, from good images alone.

Source:
    Split-conformal prediction: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World,
    2005; Lei et al., Distribution-Free Predictive Inference for Regression, JASA 2018. What one
    threshold may reject: Vovk, Conditional Validity of Inductive Conformal Predictors, ACML 2012.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError, counted
from draem.model_card import Calibration

Decision = Literal["pass", "review", "reject"]

_MARGIN = 1e-5
"""Relative to the score: more than rounding makes of one image in batches of different sizes."""
_CONFIDENCE = 0.95


def smallest_rate(images: int) -> float:
    """The smallest false-reject rate that so many images can support.

    Example:
        >>> smallest_rate(99)
        0.01
    """
    return 1 / (images + 1)


def images_needed(rate: float) -> int:
    """How many images the smallest rate that they support must not exceed this one.

    Example:
        >>> images_needed(0.01), images_needed(0.5)
        (99, 1)
    """
    # The tolerance keeps 1 / 0.01 from being rounded up.
    return max(1, math.ceil(1 / rate * (1 - 1e-12)) - 1)


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


def check_supported(images: int, false_reject_rate: float) -> None:
    """Refuse a rate that is smaller than so many images can support.

    Raises:
        InputError: It is.
    """
    needed = images_needed(false_reject_rate)
    if images < needed:
        raise InputError(
            f"{counted(images, 'good image')} cannot support a false-reject rate "
            f"of {percentage(false_reject_rate)}",
            expected=f"at least {needed} good images for that rate",
            found=f"{images}; {_limit(images)}",
            hint="Take more images of good parts, or ask for a higher rate",
        )


def calibrate(
    scores: Sequence[float],
    false_reject_rate: float,
    *,
    review_rate: float | None = None,
    pixel_levels: Sequence[float] | None = None,
    pixel_false_positive_rate: float | None = None,
) -> Calibration:
    """Find the threshold that rejects at most a given share of good images.

    For a new good image, exchangeable with the calibration images, the probability of a score at
    or above the threshold is at most the rate, for any distribution of the scores. This is an
    average over calibration sets: what one threshold rejects varies, the more the fewer images.

    Args:
        scores: Scores of good images that the model was not trained on.
        false_reject_rate: In (0, 1). If it is smaller than `smallest_rate`, that is taken.
        review_rate: The rate of a second, lower threshold; none if omitted.
        pixel_levels: Each image's `pixel_level`, for a pixel threshold; none if omitted.
        pixel_false_positive_rate: What the levels were taken at.

    Raises:
        InputError: There are no scores, one is not finite, or a rate is out of range.
    """
    check_rates(false_reject_rate, review_rate, pixel_false_positive_rate)
    count = len(scores)
    if count == 0:
        raise InputError("a threshold needs the scores of at least one good image")
    rate = max(false_reject_rate, smallest_rate(count))
    check_rates(rate, review_rate)
    by_pixels = pixel_levels is not None
    return Calibration(
        threshold=_bound(scores, rate),
        false_reject_rate=rate,
        images=count,
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


def likely_rate(calibration: Calibration) -> float:
    """The false-reject rate that 19 of 20 thresholds, each from so many images, stay within.

    The guarantee is an average over thresholds. What one of them rejects follows, for scores
    without ties, a beta distribution, whose 95% quantile this is; with ties it rejects less.

    Example:
        >>> calibration = Calibration(threshold=0.5, false_reject_rate=0.01, images=99)
        >>> round(likely_rate(calibration), 4)
        0.0298
    """
    count = calibration.images
    allowed = count + 1 - _rank(count, calibration.false_reject_rate)
    # P(Beta(k, n + 1 - k) <= x) = P(Binomial(n, x) >= k), which rises with x.
    rejected = np.arange(allowed)
    choices = np.cumsum(np.log((count + 1 - rejected[1:]) / rejected[1:]))
    choices = np.concatenate([[0.0], choices])  # (allowed,), log of binomial coefficients
    low, high = 0.0, 1.0
    for _ in range(50):
        x = (low + high) / 2
        terms = choices + rejected * math.log(x) + (count - rejected) * math.log1p(-x)
        below = float(np.exp(terms).sum())
        low, high = (x, high) if below > 1 - _CONFIDENCE else (low, x)
    return high


def guarantee(calibration: Calibration) -> str:
    """The image threshold's guarantee in words.

    Example:
        >>> guarantee(Calibration(threshold=0.5, false_reject_rate=0.05, images=19))
        'of good parts like these, on average at most 5% are rejected (19 calibration images)'
    """
    return (
        f"of good parts like these, on average at most {_at_most(calibration.false_reject_rate)} "
        f"are rejected ({counted(calibration.images, 'calibration image')})"
    )


def guarantees(calibration: Calibration) -> dict[str, str]:
    """Each threshold there is, by name: its value and its guarantee in words."""
    found = {"threshold": f"{calibration.threshold:.6g}: {guarantee(calibration)}"}
    if calibration.review_threshold is not None and calibration.review_rate is not None:
        found["review threshold"] = (
            f"{calibration.review_threshold:.6g}: of good parts like these, on average at most "
            f"{_at_most(calibration.review_rate)} do not pass, those rejected among them"
        )
    share = calibration.pixel_false_positive_rate
    if calibration.pixel_threshold is not None and share is not None:
        found["pixel threshold"] = (
            f"{calibration.pixel_threshold:.6g}: of good parts like these, on average at most "
            f"{_at_most(calibration.false_reject_rate)} have "
            f"{f'more than {percentage(share)} of their pixels' if share else 'any pixel'} "
            "at or above it"
        )
    return found


def remarks(calibration: Calibration) -> list[str]:
    """What else to know of a guarantee: how far one threshold may stray, and the smallest rate.

    Also whether a threshold is beyond every score that there can be.

    Example:
        >>> remarks(Calibration(threshold=0.5, false_reject_rate=0.1, images=19))[1]
        'the smallest rate that 19 images support is 5%'
    """
    stray = _at_most(likely_rate(calibration))
    found = [
        f"one threshold may reject more than the average: 19 of 20 like it reject at most {stray}",
        _limit(calibration.images),
    ]
    if calibration.threshold > 1:
        found.append(
            "a threshold above 1 rejects nothing: the model gives good images the highest score "
            "there is, so train it again, for longer or on images that look like these"
        )
    return found


def percentage(rate: float) -> str:
    """A rate as people read it.

    Example:
        >>> percentage(0.01), percentage(1 / 241), percentage(0.0005)
        ('1%', '0.415%', '0.05%')
    """
    return f"{100 * rate:.3g}%"


def _limit(images: int) -> str:
    support = "1 image supports" if images == 1 else f"{images} images support"
    return f"the smallest rate that {support} is {_at_most(smallest_rate(images))}"


def _at_most(rate: float) -> str:
    """A rate rounded up to three digits, so that what is read off a message can be asked for."""
    scale = 10 ** (2 - math.floor(math.log10(rate)))
    return percentage(math.ceil(rate * scale - 1e-9) / scale)


def _rank(count: int, rate: float) -> int:
    # The tolerance keeps 1000 * (1 - 0.059) from becoming 942 by rounding error.
    return max(1, math.ceil((count + 1) * (1 - rate) - 1e-9))


def _bound(values: Sequence[float], rate: float) -> float:
    """The threshold that a new value reaches with a probability of at most the rate."""
    if not np.isfinite(values).all():
        raise InputError(
            "a threshold cannot be found from scores that are not finite",
            hint="Check that the model's weights are finite",
        )
    bound = np.float32(sorted(values)[_rank(len(values), rate) - 1])
    # "At or above the threshold" means "above the bound". The margin is for the last digits, which
    # differ between batches and runtimes, so that the bounding image itself is never rejected.
    return float(np.nextafter(bound * np.float32(1 + _MARGIN), np.float32(np.inf)))
