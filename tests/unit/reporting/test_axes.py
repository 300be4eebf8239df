from __future__ import annotations

import numpy as np
import pytest

from draem.reporting.axes import choose_axis, nice_step


def test_scores_that_spread_get_the_whole_unit_axis() -> None:
    axis = choose_axis(np.linspace(0, 1, 50))
    assert (axis.kind, axis.low, axis.high) == ("linear", 0.0, 1.0)
    assert [tick.label for tick in axis.ticks()] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.at for tick in axis.ticks()] == pytest.approx([0, 20, 40, 60, 80, 100])
    np.testing.assert_allclose(axis.place(np.array([0.0, 0.25, 1.0])), [0, 0.25, 1])


def test_scores_close_together_get_a_closer_axis() -> None:
    axis = choose_axis(np.array([0.512, 0.53, 0.561]))
    assert axis.kind == "linear"
    assert axis.low == pytest.approx(0.51)
    assert axis.high == pytest.approx(0.57)
    labels = [tick.label for tick in axis.ticks()]
    assert labels == ["0.51", "0.52", "0.53", "0.54", "0.55", "0.56", "0.57"]


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 0.5, 0.999, 1.0])
def test_one_score_has_an_axis_with_room(value: float) -> None:
    axis = choose_axis(np.array([value]))
    assert axis.high > axis.low
    assert 0 <= axis.place(np.array([value]))[0] <= 1
    assert axis.ticks()


def test_no_scores_have_an_axis() -> None:
    assert choose_axis(np.array([])).kind == "linear"


def test_crowded_scores_get_log_odds() -> None:
    axis = choose_axis(np.array([2e-6, 1e-5, 3e-4, 0.5, 0.998]))
    assert (axis.kind, axis.low, axis.high) == ("logit", -6, 3)
    places = axis.place(np.array([1e-5, 0.5, 1 - 1e-2]))
    expected = [(np.log10(p / (1 - p)) + 6) / 9 for p in (1e-5, 0.5, 1 - 1e-2)]
    np.testing.assert_allclose(places, expected)
    labels = [tick.label for tick in axis.ticks()]
    assert labels[:6] == ["10⁻⁶", "10⁻⁵", "0.0001", "0.001", "0.01", "0.1"]
    assert labels[6:] == ["0.5", "0.9", "0.99", "0.999"]
    assert [tick.label for tick in axis.ticks() if not tick.minor] == [
        "10⁻⁶",
        "0.0001",
        "0.01",
        "0.5",
        "0.99",
    ]


def test_log_odds_are_symmetric_and_bounded() -> None:
    axis = choose_axis(np.array([0.0, 1.0]))
    assert (axis.low, axis.high) == (-7, 7)
    np.testing.assert_allclose(axis.place(np.array([0.0, 0.5, 1.0])), [0, 0.5, 1], atol=1e-6)
    ticks = axis.ticks()
    assert ticks[-1].label == "1−10⁻⁷"
    assert [tick.at for tick in ticks] == pytest.approx(
        [100 - tick.at for tick in ticks[::-1]], abs=1e-6
    )


def test_place_never_reverses_order() -> None:
    scores = np.sort(np.random.default_rng(0).beta(0.05, 0.05, 2000))
    for axis in (choose_axis(scores), choose_axis(np.linspace(0, 1, 9))):
        assert (np.diff(axis.place(scores)) >= 0).all()


@pytest.mark.parametrize(
    ("span", "step"), [(0.011, 0.02), (0.02, 0.02), (0.021, 0.05), (0.06, 0.1), (0.1, 0.1)]
)
def test_nice_step_is_the_next_round_number(span: float, step: float) -> None:
    assert nice_step(span) == step
