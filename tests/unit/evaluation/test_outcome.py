from __future__ import annotations

import math
from pathlib import Path

import pytest

from draem.evaluation.outcome import Outcome, ScoredImage, outcome_at, wilson_interval


@pytest.fixture
def images() -> list[ScoredImage]:
    """Four good and six defective images; 0.5 rejects one good and passes two defective."""
    scores = {0: (0.05, 0.1, 0.3, 0.5), 1: (0.2, 0.9, 0.8, 0.4, 0.7, 0.95)}
    return [
        ScoredImage(Path(f"{label}-{number}.png"), "dent" if label else "normal", label, score)
        for label, group in scores.items()
        for number, score in enumerate(group)
    ]


def test_a_score_at_the_threshold_is_rejected() -> None:
    images = [ScoredImage(Path("a.png"), "normal", 0, 0.5), ScoredImage(Path("b"), "dent", 1, 0.5)]
    assert outcome_at(images, 0.5) == Outcome(0, 1, 0, 1)
    assert outcome_at(images, 0.500001) == Outcome(1, 0, 1, 0)


def test_counts_and_rates(images: list[ScoredImage]) -> None:
    outcome = outcome_at(images, 0.5)
    assert outcome == Outcome(
        good_passed=3, good_rejected=1, defective_passed=2, defective_rejected=4
    )
    assert (outcome.good, outcome.defective) == (4, 6)
    assert outcome.false_reject_rate == 0.25
    assert outcome.miss_rate == pytest.approx(1 / 3)
    assert outcome.recall == pytest.approx(4 / 6)
    assert outcome.precision == pytest.approx(4 / 5)


def test_between_the_thresholds_lies_review(images: list[ScoredImage]) -> None:
    outcome = outcome_at(images, 0.5, 0.3)
    assert outcome == Outcome(2, 1, 1, 4, good_review=1, defective_review=1)
    assert (outcome.good, outcome.defective) == (4, 6)
    assert outcome.miss_rate == pytest.approx(1 / 6)
    assert outcome.normal_review_rate == pytest.approx(1 / 4)
    assert outcome.anomalous_review_rate == pytest.approx(1 / 6)


def test_rates_without_images_are_undefined() -> None:
    outcome = outcome_at([], 0.5)
    assert math.isnan(outcome.false_reject_rate)
    assert math.isnan(outcome.miss_rate)
    assert math.isnan(outcome.precision)


@pytest.mark.parametrize(("part", "whole"), [(0, 10), (3, 10), (10, 10), (1, 1), (53, 119)])
def test_wilson_bounds_are_where_the_share_is_just_rejected(part: int, whole: int) -> None:
    """The bounds p solve |part/whole - p| = z sqrt(p (1 - p) / whole)."""
    for bound in wilson_interval(part, whole):
        distance = abs(part / whole - bound)
        assert distance == pytest.approx(
            1.959964 * math.sqrt(bound * (1 - bound) / whole), abs=1e-9
        )


def test_wilson_knows_nothing_without_images() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
