"""What a threshold from so many good images promises: the rates that they support, and the words.

Source:
    What one threshold may reject: Vovk, Conditional Validity of Inductive Conformal Predictors,
    ACML 2012.
"""

from __future__ import annotations

import math

import numpy as np

from draem.errors import InputError, counted
from draem.model_card import Calibration

PROVISO = (
    "this holds for parts like these, photographed alike, if the pictures of each part were grouped"
)
"""What every guarantee assumes."""
_EXPECTED = (
    "this rate is measured by cross-validation, not guaranteed; hold images out with "
    "--held-out-share for a guarantee"
)
"""Of a threshold from images that were not held out."""
_CONFIDENCE = 0.95


def smallest_rate(images: int) -> float:
    """The smallest false-reject rate that so many images, or groups of images, can support.

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


def check_supported(images: int, false_reject_rate: float, groups: int | None = None) -> None:
    """Refuse a rate that is smaller than so many images, or groups of them, can support.

    Raises:
        InputError: It is.
    """
    needed, found = images_needed(false_reject_rate), images if groups is None else groups
    if found < needed:
        kind = "images" if groups is None else "groups"
        raise InputError(
            f"{_basis(images, groups, 'good image')} cannot support a false-reject rate "
            f"of {percentage(false_reject_rate)}",
            expected=f"at least {needed} {'good ' if groups is None else ''}{kind} for that rate",
            found=f"{found}; {_limit(found, kind)}",
            hint="Take images of more good parts, or ask for a higher rate",
        )


def likely_rate(calibration: Calibration) -> float:
    """The false-reject rate that 19 of 20 thresholds, each from so many parts, stay within.

    The guarantee is an average over thresholds. What one of them rejects follows, for scores
    without ties, a beta distribution, whose 95% quantile this is; with ties it rejects less.

    Example:
        >>> calibration = Calibration(threshold=0.5, false_reject_rate=0.01, images=99)
        >>> round(likely_rate(calibration), 4)
        0.0298
    """
    count = calibration.parts
    allowed = count + 1 - rank(count, calibration.false_reject_rate)
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
    basis = _basis(calibration.images, calibration.groups, "calibration image")
    if calibration.cross_fitted:
        return (
            f"of good parts like these, about {_at_most(calibration.false_reject_rate)} or fewer "
            f"should be rejected ({basis}, each scored as if it were new)"
        )
    return (
        f"of good parts like these, on average at most {_at_most(calibration.false_reject_rate)} "
        f"are rejected ({basis})"
    )


def proviso(*, cross_fitted: bool) -> str:
    """What the guarantee assumes, and whether it is one."""
    return f"{PROVISO}; {_EXPECTED}" if cross_fitted else PROVISO


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
    """What else to know of a guarantee: its proviso, how far one threshold may stray, and more.

    The smallest rate, and whether a threshold is beyond every score that there can be.

    Example:
        >>> remarks(Calibration(threshold=0.5, false_reject_rate=0.1, images=19))[2]
        'the smallest rate that 19 images support is 5%'
    """
    stray = _at_most(likely_rate(calibration))
    found = [
        proviso(cross_fitted=calibration.cross_fitted),
        f"one threshold may reject more than the average: 19 of 20 like it reject at most {stray}",
        _limit(calibration.parts, "images" if calibration.groups is None else "groups"),
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


def rank(count: int, rate: float) -> int:
    """Which of so many values, counted from 1 in rising order, a new one exceeds at this rate.

    The probability is at most the rate, for values that are exchangeable.
    """
    # The tolerance keeps 1000 * (1 - 0.059) from becoming 942 by rounding error.
    return max(1, math.ceil((count + 1) * (1 - rate) - 1e-9))


def _limit(count: int, kind: str) -> str:
    support = f"1 {kind[:-1]} supports" if count == 1 else f"{count} {kind} support"
    return f"the smallest rate that {support} is {_at_most(smallest_rate(count))}"


def _basis(images: int, groups: int | None, noun: str) -> str:
    """How many images, and how many groups if they are in groups."""
    return counted(images, noun) + ("" if groups is None else f" in {counted(groups, 'group')}")


def _at_most(rate: float) -> str:
    """A rate rounded up to three digits, so that what is read off a message can be asked for."""
    scale = 10 ** (2 - math.floor(math.log10(rate)))
    return percentage(math.ceil(rate * scale - 1e-9) / scale)
