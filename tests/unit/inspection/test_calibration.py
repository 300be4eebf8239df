from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from draem.errors import InputError
from draem.inspection.calibration import calibrate, guarantee, smallest_rate
from draem.modelfile import Calibration

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def continuous(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.beta(0.5, 20, count)


def tied(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.choice([0.0, 0.1, 0.2, 1.0], count, p=[0.5, 0.3, 0.15, 0.05])


def realised_rates(draw: Draw, images: int, rate: float) -> NDArray[np.float64]:
    """The share of fresh good images that each of many calibrated thresholds rejects."""
    rng = np.random.default_rng([images, round(1000 * rate)])
    rates = []
    for _ in range(1500):
        scores = draw(rng, images + 100).astype(np.float32)
        threshold = calibrate(scores[:images].tolist(), rate).threshold
        rates.append((scores[images:].astype(np.float64) >= threshold).mean())
    return np.array(rates)


CASES = [(5, 0.5), (19, 0.05), (40, 0.1), (99, 0.01), (30, 0.33), (10, 0.01)]


@pytest.mark.parametrize(("images", "rate"), CASES)
@pytest.mark.parametrize("draw", [continuous, tied])
def test_no_more_good_images_are_rejected_than_promised(
    draw: Draw, images: int, rate: float
) -> None:
    rates = realised_rates(draw, images, rate)
    error = rates.std() / math.sqrt(len(rates))
    promised = calibrate([0.0] * images, rate).false_reject_rate
    assert rates.mean() <= promised + 3 * error


@pytest.mark.parametrize(("images", "rate"), CASES)
def test_the_threshold_is_no_higher_than_it_needs_to_be(images: int, rate: float) -> None:
    rates = realised_rates(continuous, images, rate)
    error = rates.std() / math.sqrt(len(rates))
    promised = max(rate, 1 / (images + 1))
    # Without ties the rate is the largest multiple of 1 / (images + 1) up to the promise.
    expected = math.floor(promised * (images + 1) + 1e-9) / (images + 1)
    assert abs(rates.mean() - expected) <= 3.5 * error


@pytest.mark.parametrize(
    ("images", "rate", "rank"),
    [
        (99, 0.01, 99),  # 100 * 0.99 = 99
        (100, 0.01, 100),  # 101 * 0.99 = 99.99
        (199, 0.01, 198),  # 200 * 0.99 = 198
        (198, 0.01, 198),  # 199 * 0.99 = 197.01
        (999, 0.01, 990),
        (999, 0.059, 941),  # 1000 * (1 - 0.059) is above 941 in floating point
        (9, 0.7, 3),
        (9, 0.1, 9),
        (19, 0.05, 19),
        (1, 0.5, 1),
        (1, 0.999, 1),
        (4, 0.9999999999, 1),
    ],
)
def test_the_rank_is_exact(images: int, rate: float, rank: int) -> None:
    scores = np.arange(1, images + 1)
    shuffled = np.random.default_rng(0).permutation(scores).tolist()
    calibration = calibrate(shuffled, rate)
    assert calibration.false_reject_rate == rate
    assert calibration.images == images
    above = int((scores >= calibration.threshold).sum())
    assert images - above == rank
    assert calibration.threshold == pytest.approx(rank, rel=2e-5)


@pytest.mark.parametrize("images", [1, 2, 9, 98])
def test_too_few_images_give_the_smallest_rate_they_support(images: int) -> None:
    scores = np.linspace(0.1, 0.2, images).tolist()
    calibration = calibrate(scores, 0.01)
    assert calibration.false_reject_rate == smallest_rate(images) == 1 / (images + 1)
    # Just above the highest score: none of the images it was found from is rejected, not even
    # when its score comes out a few last digits higher.
    highest = 0.2 if images > 1 else 0.1
    assert highest * (1 + 5e-6) < calibration.threshold < highest * (1 + 2e-5)


@pytest.mark.parametrize("score", [0.0, 1e-30, 0.1, 1 / 3, 1 - 2**-24, 1.0])
def test_the_threshold_lies_just_above_the_bound(score: float) -> None:
    bound = np.float32(score)
    threshold = calibrate([float(bound)] * 19, 0.05).threshold
    assert not float(bound) >= threshold
    assert float(np.nextafter(bound, np.float32(2))) * (1 + 2e-5) >= threshold
    assert np.float32(threshold) == threshold, "a float32 score must be able to equal it"


@pytest.mark.parametrize("shift", [-1e-9, 0, 1e-9, 1e-12])
def test_scores_of_more_digits_than_float32_are_not_rejected_by_rounding(shift: float) -> None:
    score = 0.3 + shift
    assert not score >= calibrate([score] * 9, 0.1).threshold


def test_the_order_of_the_scores_does_not_matter() -> None:
    scores = np.random.default_rng(1).random(50).tolist()
    assert calibrate(scores, 0.1) == calibrate(sorted(scores), 0.1)
    assert calibrate(np.array(scores), 0.1) == calibrate(tuple(scores[::-1]), 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match=r"between 0 and 1.*Found"):
        calibrate([0.5], rate)


def test_no_scores_are_refused() -> None:
    with pytest.raises(InputError, match="at least one good image"):
        calibrate([], 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        calibrate([0.1, value, 0.2], 0.5)


def test_the_guarantee_names_the_rate_and_the_images() -> None:
    calibration = Calibration(threshold=0.2, false_reject_rate=1 / 101, images=100)
    assert guarantee(calibration) == (
        "of good parts like these, on average at most 0.99% are rejected (100 calibration images)"
    )
