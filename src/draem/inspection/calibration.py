"""A threshold with a finite-sample guarantee, from good images alone.

Source:
    Split-conformal prediction: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World,
    2005; Lei et al., Distribution-Free Predictive Inference for Regression, JASA 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from draem.errors import InputError
from draem.modelfile import Calibration

_MARGIN = 1e-5
"""Relative to the score; single-precision scores of one image differ by less between runtimes."""


def smallest_rate(images: int) -> float:
    """The smallest false-reject rate that so many images can support.

    Example:
        >>> smallest_rate(99)
        0.01
    """
    return 1 / (images + 1)


def calibrate(scores: Sequence[float], false_reject_rate: float) -> Calibration:
    """Find the threshold that rejects at most a given share of good images.

    For a new good image, exchangeable with the calibration images, the probability of a score at
    or above the threshold is at most the rate, whatever the scores' distribution. This is an
    average over calibration sets: what one threshold rejects varies, the more the fewer images.

    Args:
        scores: Scores of good images that the model was not trained on.
        false_reject_rate: In (0, 1). Where it is smaller than `smallest_rate`, that is taken.

    Raises:
        InputError: There are no scores, one is not finite, or the rate is out of range.
    """
    count = len(scores)
    if not 0 < false_reject_rate < 1:
        raise InputError(
            "the false-reject rate is out of range",
            expected="a share between 0 and 1, such as 0.01",
            found=f"{false_reject_rate}",
        )
    if count == 0:
        raise InputError("a threshold needs the scores of at least one good image")
    if not np.isfinite(scores).all():
        raise InputError(
            "a threshold cannot be found from scores that are not finite",
            hint="Check that the model's weights are finite",
        )
    rate = max(false_reject_rate, smallest_rate(count))
    # The tolerance keeps 1000 * (1 - 0.059) from becoming 942 by rounding error.
    rank = math.ceil((count + 1) * (1 - rate) - 1e-9)
    bound = np.float32(sorted(scores)[max(rank, 1) - 1])
    # "At or above the threshold" means "above the bound". The margin is for the last digits, which
    # differ between batches and runtimes, so that the bounding image itself is never rejected.
    above = np.nextafter(bound * np.float32(1 + _MARGIN), np.float32(np.inf))
    return Calibration(
        threshold=float(above),
        false_reject_rate=rate,
        images=count,
    )


def guarantee(calibration: Calibration) -> str:
    """The guarantee in words.

    Example:
        >>> guarantee(Calibration(threshold=0.5, false_reject_rate=0.05, images=19))
        'of good parts like these, on average at most 5% are rejected (19 calibration images)'
    """
    return (
        f"of good parts like these, on average at most {100 * calibration.false_reject_rate:.3g}% "
        f"are rejected ({calibration.images} calibration images)"
    )
