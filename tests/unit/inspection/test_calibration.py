from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from draem.datasets.split import train_held_out_split
from draem.errors import InputError
from draem.inspection.calibration import calibrate, decide, pixel_level
from draem.inspection.guarantee import (
    PROVISO,
    check_supported,
    guarantee,
    guarantees,
    images_needed,
    likely_rate,
    remarks,
    smallest_rate,
)
from draem.model_card import Calibration

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
    scores = np.arange(1, images + 1) / 1000
    shuffled = np.random.default_rng(0).permutation(scores).tolist()
    calibration = calibrate(shuffled, rate)
    assert calibration.false_reject_rate == rate
    assert calibration.images == images
    above = int((scores >= calibration.threshold).sum())
    assert images - above == rank
    assert calibration.threshold == pytest.approx(rank / 1000, rel=2e-5)


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
        "of good parts like these, on average at most 0.991% are rejected (100 calibration images)"
    )


@pytest.mark.parametrize("images", [1, 16, 19, 240])
def test_the_smallest_rate_reads_alike_in_guarantee_and_remark(images: int) -> None:
    calibration = Calibration(threshold=0.2, false_reject_rate=1 / (images + 1), images=images)
    promised = re.search(r"at most ([\d.]+%) are", guarantee(calibration))
    assert promised is not None
    assert remarks(calibration)[2].endswith(f" is {promised[1]}")
    assert f"({images} calibration image{'s' * (images > 1)})" in guarantee(calibration)


# The guarantee, against its exact distribution

SPLITS = 3000
CHANCE = 1e-4
"""How often a right implementation may fail one of these tests; the seeds are fixed."""


def allowed(images: int, rate: float) -> int:
    """The most of `images + 1` exchangeable images that may be rejected, by its definition."""
    return max(k for k in range(images + 1) if k <= rate * (images + 1) + 1e-9)


def within_chance(count: int, splits: int, share: float) -> bool:
    """Whether so many of independent trials with this probability are unsurprising."""
    low, high = stats.binom.ppf([CHANCE, 1 - CHANCE], splits, share)
    return bool(low <= count <= high)


EXACT_CASES = [(5, 0.5), (19, 0.05), (39, 0.06), (99, 0.01), (30, 0.33)]


@pytest.mark.parametrize(("images", "rate"), EXACT_CASES)
def test_a_new_good_image_is_rejected_as_often_as_promised_and_no_less(
    images: int, rate: float
) -> None:
    """Each split rejects its one new image with exactly floor((n + 1) rate) / (n + 1)."""
    rng = np.random.default_rng([1, images])
    rejected = reviewed = 0
    review_rate = min(0.9, 2 * rate)
    for _ in range(SPLITS):
        *scores, new = continuous(rng, images + 1).astype(np.float32).tolist()
        found = calibrate(scores, rate, review_rate=review_rate)
        decision = decide(new, found)
        rejected += decision == "reject"
        reviewed += decision in ("reject", "review")
    assert within_chance(rejected, SPLITS, allowed(images, rate) / (images + 1))
    assert within_chance(reviewed, SPLITS, allowed(images, review_rate) / (images + 1))


@pytest.mark.parametrize(("images", "rate"), EXACT_CASES)
def test_ties_reject_no_more(images: int, rate: float) -> None:
    rng = np.random.default_rng([2, images])
    rejected = 0
    for _ in range(SPLITS):
        *scores, new = tied(rng, images + 1).astype(np.float32).tolist()
        rejected += new >= calibrate(scores, rate).threshold
    assert rejected <= stats.binom.ppf(1 - CHANCE, SPLITS, allowed(images, rate) / (images + 1))


@pytest.mark.parametrize(("images", "rate"), [(39, 0.05), (99, 0.01), (60, 0.3)])
def test_what_thresholds_reject_follows_the_beta_binomial(images: int, rate: float) -> None:
    rng, fresh = np.random.default_rng([3, images]), 200
    counts = np.empty(SPLITS, np.int64)
    for split in range(SPLITS):
        scores = rng.random(images + fresh).astype(np.float32)
        threshold = calibrate(scores[:images].tolist(), rate).threshold
        counts[split] = (scores[images:] >= threshold).sum()
    most = allowed(images, rate)
    exact = stats.betabinom(fresh, most, images + 1 - most)
    for quantile in (0.1, 0.5, 0.9, 0.99):
        bound = exact.ppf(quantile)
        assert within_chance(int((counts <= bound).sum()), SPLITS, exact.cdf(bound))


@pytest.mark.parametrize(("images", "rate"), [(1, 0.5), (39, 0.05), (99, 0.01), (500, 0.1)])
def test_19_of_20_thresholds_reject_at_most_the_likely_rate(images: int, rate: float) -> None:
    rng = np.random.default_rng([4, images])
    beyond = 0
    for _ in range(SPLITS):
        found = calibrate(rng.random(images).tolist(), rate)
        # Of uniform scores a threshold rejects exactly the share above it.
        beyond += 1 - found.threshold > likely_rate(found)
    assert within_chance(beyond, SPLITS, 0.05)


@pytest.mark.parametrize(
    ("images", "rate"), [(1, 0.5), (1, 0.99), (9, 0.1), (99, 0.01), (999, 0.2), (30, 0.97)]
)
def test_the_likely_rate_is_the_betas_quantile(images: int, rate: float) -> None:
    found = Calibration(threshold=0.5, false_reject_rate=rate, images=images)
    most = allowed(images, rate)
    exact = stats.beta.ppf(0.95, most, images + 1 - most)
    assert likely_rate(found) == pytest.approx(exact, rel=1e-9)


# Pixels


def good_map(rng: np.random.Generator) -> NDArray[np.float32]:
    """Maps of good parts: noise that is stronger on some parts than on others."""
    return (rng.random() * rng.random((9, 11)) ** 3).astype(np.float32)


@pytest.mark.parametrize("pixel_rate", [0.0, 0.01, 0.1])
def test_no_more_good_images_have_too_many_pixels_marked_than_promised(pixel_rate: float) -> None:
    images, rate = 19, 0.1
    rng = np.random.default_rng([5, round(100 * pixel_rate)])
    too_many = 0
    for _ in range(SPLITS):
        *maps, new = (good_map(rng) for _ in range(images + 1))
        found = calibrate(
            rng.random(images).tolist(),
            rate,
            pixel_levels=[pixel_level(plane, pixel_rate) for plane in maps],
            pixel_false_positive_rate=pixel_rate,
        )
        assert found.pixel_threshold is not None
        too_many += (new >= found.pixel_threshold).mean() > pixel_rate
    assert within_chance(too_many, SPLITS, allowed(images, rate) / (images + 1))


@pytest.mark.parametrize("pixel_rate", [0.0, 0.009, 0.01, 0.0101, 0.29, 0.5, 0.999])
@pytest.mark.parametrize("digits", [1, 8])
def test_a_threshold_marks_too_many_pixels_exactly_up_to_the_level(
    pixel_rate: float, digits: int
) -> None:
    plane = np.random.default_rng(6).random((10, 10)).round(digits).astype(np.float32)
    level = pixel_level(plane, pixel_rate)
    for threshold in {*plane.ravel().tolist(), 0.0, 0.05, 0.5, 1.0, 1.1}:
        marked = int((plane >= threshold).sum())
        assert (marked > pixel_rate * plane.size + 1e-9) == (level >= threshold)


def test_a_level_of_no_pixels_is_the_peak_and_the_map_stays_as_it_is() -> None:
    plane = np.random.default_rng(7).random((8, 8)).astype(np.float32)
    before = plane.copy()
    assert pixel_level(plane, 0) == plane.max()
    assert pixel_level(plane, 1 - 1e-12) == plane.min()
    assert (plane == before).all()


def test_without_the_options_there_is_one_threshold() -> None:
    found = calibrate([0.1] * 19, 0.05)
    assert found.review_threshold is found.review_rate is None
    assert found.pixel_threshold is found.pixel_false_positive_rate is None
    assert list(guarantees(found)) == ["threshold"]


def test_the_thresholds_are_the_quantiles_of_their_own_values() -> None:
    scores = np.arange(1, 100) / 100
    found = calibrate(
        scores.tolist(),
        0.02,
        review_rate=0.2,
        pixel_levels=(scores / 2).tolist(),
        pixel_false_positive_rate=0.001,
    )
    # 100 * 0.98 = 98 and 100 * 0.8 = 80.
    assert found.threshold == pytest.approx(0.98, rel=2e-5)
    assert found.review_threshold == pytest.approx(0.80, rel=2e-5)
    assert found.pixel_threshold == pytest.approx(0.49, rel=2e-5)
    assert (found.review_rate, found.pixel_false_positive_rate) == (0.2, 0.001)
    assert found.threshold > 0.98


# Refusal and words


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.01, 99), (0.05, 19), (1 / 3, 2), (0.3, 3), (0.5, 1), (0.999, 1)]
)
def test_a_rate_is_refused_below_the_images_it_needs_and_not_at_them(
    rate: float, needed: int
) -> None:
    assert images_needed(rate) == needed
    check_supported(needed, rate)
    assert smallest_rate(needed) <= rate * (1 + 1e-12)
    with pytest.raises(InputError, match=f"at least {needed} good images"):
        check_supported(needed - 1, rate)


@pytest.mark.parametrize("images", range(1, 400))
def test_the_smallest_rate_is_not_refused(images: int) -> None:
    assert images_needed(smallest_rate(images)) == images
    check_supported(images, smallest_rate(images))


@pytest.mark.parametrize("images", [1, 2, 6, 10, 66, 240, 777, 98765])
def test_the_rate_that_a_refusal_names_can_be_asked_for(images: int) -> None:
    with pytest.raises(InputError, match=r"smallest rate that .* supports? is") as raised:
        check_supported(images, smallest_rate(images) * 0.9)
    named = float(str(raised.value.found).split()[-1].rstrip("%")) / 100
    check_supported(images, named)
    assert named < 1.01 * smallest_rate(images)


@pytest.mark.parametrize("rate", [0.05, 0.04, 1, 1.5, -1, float("nan")])
def test_a_review_rate_must_lie_above_the_false_reject_rate(rate: float) -> None:
    with pytest.raises(InputError, match=r"review rate.*above the false-reject rate, 0.05"):
        calibrate([0.5] * 30, 0.05, review_rate=rate)


def test_a_review_rate_that_the_images_do_not_support_is_refused() -> None:
    with pytest.raises(InputError, match=r"above the false-reject rate, 0\.25"):
        calibrate([0.5] * 3, 0.01, review_rate=0.2)


@pytest.mark.parametrize("rate", [-0.1, 1, float("nan")])
def test_a_pixel_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="pixels' false-positive rate"):
        calibrate([0.5], 0.5, pixel_levels=[0.5], pixel_false_positive_rate=rate)


@pytest.mark.parametrize("value", [-0.01, 1.01, 199])
def test_scores_and_levels_beyond_0_and_1_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"not between 0 and 1"):
        calibrate([0.1, value, 0.2], 0.5)
    with pytest.raises(InputError, match=r"not between 0 and 1"):
        calibrate([0.5], 0.5, pixel_levels=[value], pixel_false_positive_rate=0.1)


def test_levels_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        calibrate([0.5], 0.5, pixel_levels=[math.nan], pixel_false_positive_rate=0.1)


def test_decisions_at_and_beside_the_thresholds() -> None:
    two = Calibration(
        threshold=0.5, false_reject_rate=0.05, images=19, review_threshold=0.3, review_rate=0.2
    )
    scores = (0.0, np.nextafter(0.3, 0), 0.3, np.nextafter(0.5, 0), 0.5, 1.0)
    assert [decide(score, two) for score in scores] == [
        *("pass", "pass", "review", "review", "reject", "reject")
    ]
    one = two.model_copy(update={"review_threshold": None})
    assert [decide(score, one) for score in scores] == ["pass"] * 4 + ["reject"] * 2
    assert decide(1.0, None) is None


def test_a_threshold_that_rejects_nothing_is_remarked_on() -> None:
    saturated, usable = (calibrate([score] * 99, 0.01) for score in (1.0, 0.99))
    assert "rejects nothing" in remarks(saturated)[-1]
    assert not any("rejects nothing" in remark for remark in remarks(usable))


def test_each_threshold_has_its_guarantee_in_words() -> None:
    found = Calibration(
        threshold=0.5,
        false_reject_rate=0.01,
        images=240,
        review_threshold=0.25,
        review_rate=0.1,
        pixel_threshold=0.125,
        pixel_false_positive_rate=0.001,
    )
    assert guarantees(found) == {
        "threshold": f"0.5: {guarantee(found)}",
        "review threshold": "0.25: of good parts like these, on average at most 10% do not pass, "
        "those rejected among them",
        "pixel threshold": "0.125: of good parts like these, on average at most 1% have more than "
        "0.1% of their pixels at or above it",
    }
    none = found.model_copy(update={"pixel_false_positive_rate": 0.0})
    assert guarantees(none)["pixel threshold"].endswith("have any pixel at or above it")
    assert remarks(found)[2] == "the smallest rate that 240 images support is 0.415%"
    assert remarks(found)[1].endswith("19 of 20 like it reject at most 1.97%")
    assert remarks(found)[0] == PROVISO


# Groups of images of one part

PARTS, VIEWS = 100, 4


def rejected_new_parts(groups: NDArray[np.int64], by_group: bool, rate: float) -> int:
    """Of 1,000 splits, how many reject a new part by any of its pictures.

    Pictures of one part score nearly alike, and a fifth of that if the network has learned the
    part.
    """
    rejected = 0
    for seed in range(1000):
        rng = np.random.default_rng([5, seed])
        parts = rng.random(PARTS + 1)
        pictures = 0.99 * parts[:, None] + 0.01 * rng.random((PARTS + 1, VIEWS))
        held_out, kept = train_held_out_split(groups, 0.2, seed)
        part_of = held_out // VIEWS
        learned = np.isin(part_of, kept // VIEWS)
        scores = pictures[:-1].ravel()[held_out] * np.where(learned, 0.2, 1)
        found = calibrate(scores.tolist(), rate, groups=groups[held_out] if by_group else None)
        rejected += bool((pictures[-1] >= found.threshold).any())
    return rejected


def test_parts_on_both_sides_break_the_promise_and_groups_keep_it() -> None:
    rate, highest = 0.1, stats.binom.ppf(1 - CHANCE, 1000, 0.1)

    by_image = rejected_new_parts(np.arange(PARTS * VIEWS), False, rate)
    by_group = rejected_new_parts(np.arange(PARTS * VIEWS) // VIEWS, True, rate)

    assert by_image > 2 * highest
    # 20 parts are held out, so that 2 of 21 may be rejected: as many, and no fewer.
    assert by_group <= highest
    assert within_chance(by_group, 1000, 2 / 21)


def test_of_a_group_the_highest_score_and_level_count() -> None:
    scores, levels, groups = [0.1, 0.4, 0.3, 0.2], [0.9, 0.1, 0.2, 0.3], [7, 3, 7, 3]
    rates = {"review_rate": 0.5, "pixel_false_positive_rate": 0.1}

    found = calibrate(scores, 0.4, groups=groups, pixel_levels=levels, **rates)
    alone = calibrate([0.3, 0.4], 0.4, pixel_levels=[0.9, 0.3], **rates)

    assert found == alone.replace(images=4, groups=2)
    assert found.parts == alone.parts == alone.images == 2
    assert alone.groups is None


def test_groups_of_one_image_change_nothing() -> None:
    scores = np.random.default_rng(0).random(30).tolist()

    assert calibrate(scores, 0.1, groups=np.arange(30)) == calibrate(scores, 0.1)


def test_groups_count_for_what_is_said_of_the_guarantee() -> None:
    found = Calibration(threshold=0.5, false_reject_rate=0.05, images=240, groups=19)
    alone = Calibration(threshold=0.5, false_reject_rate=0.05, images=19)

    assert guarantee(found).endswith("(240 calibration images in 19 groups)")
    assert likely_rate(found) == likely_rate(alone)
    assert remarks(found)[2] == "the smallest rate that 19 groups support is 5%"
    with pytest.raises(InputError, match=r"240 good images in 19 groups.*at least 99 groups"):
        check_supported(240, 0.01, 19)


def test_a_cross_fitted_threshold_promises_no_more_than_it_can() -> None:
    found = calibrate([0.1] * 99, 0.01).replace(cross_fitted=True)
    assert guarantee(found).startswith("of good parts like these, about 1% or fewer should be")
    assert "not guaranteed" in remarks(found)[0]
