from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from draem.evaluation.outcome import ScoredImage
from draem.reporting.score_histogram import Bar, score_histogram


def _images(good: list[float], defective: list[float]) -> list[ScoredImage]:
    return [ScoredImage(Path("a.png"), "normal", 0, score) for score in good] + [
        ScoredImage(Path("b.png"), "dent", 1, score) for score in defective
    ]


def _count(bars: list[Bar]) -> int:
    return sum(int(bar.text.split()[0].replace(",", "")) for bar in bars)


def test_bars_by_hand() -> None:
    """Without a threshold, bars begin at multiples of 1/40; there is room for 1 more at each end.

    0.051 and 0.06 share the bar from 2/40, 0.91 is in that from 36/40, 0.76 in that from 30/40.
    """
    item = score_histogram(_images([0.051, 0.06, 0.91], [0.76]), None)
    assert item.threshold is None
    assert [bar.text for bar in item.good] == ["2 good images (66.7%)", "1 good image (33.3%)"]
    assert [bar.x for bar in item.good] == pytest.approx([100 * 3 / 42, 100 * 37 / 42])
    assert [bar.width for bar in item.good] == pytest.approx([100 / 42, 100 / 42])
    # Good reach 2/3 and defective 1; at steps of 0.5 both have room up to 1.
    assert item.baseline == pytest.approx(50)
    assert [tick.label for tick in item.y_ticks] == ["100%", "50%", "0%", "50%", "100%"]
    assert item.good[0].height == pytest.approx(50 * 2 / 3)
    assert item.good[0].y == pytest.approx(50 - 50 * 2 / 3)
    assert (item.defective[0].x, item.defective[0].y) == pytest.approx((100 * 31 / 42, 50))
    assert item.defective[0].height == pytest.approx(50)


@pytest.mark.parametrize("threshold", [0.0, 1e-8, 0.013, 0.37, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("shape", [0.03, 1.0])
def test_bars_beside_the_threshold_hold_what_passes_and_what_is_rejected(
    threshold: float, shape: float
) -> None:
    rng = np.random.default_rng(1)
    good, defective = rng.beta(shape, shape, 300), rng.beta(shape, shape, 200)
    good[:3] = threshold
    item = score_histogram(_images(good.tolist(), defective.tolist()), threshold)
    assert item.threshold is not None
    for bars, scores in ((item.good, good), (item.defective, defective)):
        passed = [bar for bar in bars if bar.x + bar.width <= item.threshold + 1e-6]
        rejected = [bar for bar in bars if bar.x >= item.threshold - 1e-6]
        assert _count(passed) == (scores < threshold).sum()
        assert _count(rejected) == (scores >= threshold).sum()
        assert len(passed) + len(rejected) == len(bars)
        assert all(bar.x >= 0 and bar.x + bar.width <= 100 + 1e-6 for bar in bars)
        assert all(bar.y >= 0 and bar.y + bar.height <= 100 + 1e-6 for bar in bars)


def test_tiny_scores_are_told_apart() -> None:
    item = score_histogram(_images([1e-6, 2e-6], [1e-4]), 1e-5)
    assert item.axis.kind == "logit"
    assert item.threshold_text == "1.0 × 10⁻⁵"
    assert item.good[0].x < item.good[1].x < item.threshold < item.defective[0].x  # type: ignore[operator]


def test_empty_classes_leave_room() -> None:
    alone = score_histogram(_images([0.2, 0.4], []), None)
    assert alone.defective == []
    assert 0 < alone.baseline < 100
    nothing = score_histogram([], 0.5)
    assert (nothing.good, nothing.defective) == ([], [])
    assert nothing.threshold == pytest.approx(50)


def test_the_review_threshold_has_its_place_on_the_axis() -> None:
    item = score_histogram(_images([0.1, 0.3], [0.9]), 0.5, 0.25)
    assert item.review is not None
    assert item.threshold is not None
    assert (item.review - 100 / 42) / (item.threshold - 100 / 42) == pytest.approx(0.5)
    assert item.review_text == "0.2500"
