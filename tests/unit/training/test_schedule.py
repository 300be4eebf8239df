from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest

from draem.training import schedule
from draem.training.schedule import RunClock, learning_rate_factor, make_clock


class Time:
    """A clock on the wall that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Time:
    wall = Time()
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=wall.monotonic))
    return wall


@pytest.mark.parametrize(
    ("images", "batch_size", "epochs", "steps"),
    [(300, 8, 700, 26250), (10, 4, 1, 3), (10, 4, 2, 5), (1, 8, 1, 1), (1, 8, 9, 2), (7, 7, 3, 3)],
)
def test_epochs_become_steps(images: int, batch_size: int, epochs: int, steps: int) -> None:
    clock = make_clock(images, batch_size, epochs=epochs)

    assert (clock.total_steps, clock.total_seconds) == (steps, None)


def test_steps_and_minutes_are_taken_as_they_are() -> None:
    assert make_clock(300, 8, steps=17) == RunClock(17, None)
    assert make_clock(300, 8, minutes=2.5) == RunClock(None, 150)


def test_the_fraction_of_a_run_in_steps() -> None:
    clock = make_clock(1, 1, steps=8)

    assert [clock.fraction(step) for step in (0, 2, 8, 9)] == [0, 0.25, 1, 1]


def test_the_fraction_of_a_run_in_minutes(wall: Time) -> None:
    clock = make_clock(1, 1, minutes=2)
    assert clock.fraction(10**6) == 0

    clock.start()
    fractions = []
    for _ in range(4):
        fractions.append(clock.fraction(0))
        wall.now += 48

    assert fractions == pytest.approx([0, 0.4, 0.8, 1])


def test_seconds_include_those_before_a_resume(wall: Time) -> None:
    clock = RunClock(None, 100, earlier_seconds=40)
    assert clock.seconds == 40
    assert clock.seconds_left(0) == 60

    clock.start()
    wall.now += 15

    assert clock.seconds == 55
    assert clock.fraction(0) == pytest.approx(0.55)
    assert clock.seconds_left(0) == 45
    wall.now += 100
    assert clock.seconds_left(0) == 0


def test_seconds_left_of_a_run_in_steps(wall: Time) -> None:
    clock = make_clock(1, 1, steps=10)
    assert clock.seconds_left(0) is None

    clock.start()
    assert clock.seconds_left(4) is None  # no time has passed to go by
    wall.now += 30

    assert clock.seconds_left(0) is None
    assert clock.seconds_left(1) == pytest.approx(270)
    assert clock.seconds_left(6) == pytest.approx(20)
    assert clock.seconds_left(10) == 0


@pytest.mark.parametrize(
    ("schedule", "boundaries", "factors"),
    [
        ("paper", (400, 600), (1, 0.1, 0.01)),
        ("upstream", (560, 630), (1, 0.2, 0.04)),
    ],
)
@pytest.mark.parametrize("scale", [1, 3, 37])
def test_steps_of_the_learning_rate_are_exact(
    schedule: str, boundaries: tuple[int, int], factors: tuple[float, ...], scale: int
) -> None:
    clock = make_clock(1, 1, steps=700 * scale)

    def factor(step: int) -> float:
        return learning_rate_factor(schedule, clock.fraction(step))

    first, second = (scale * boundary for boundary in boundaries)
    steps = (0, first - 1, first, second - 1, second, 700 * scale)
    expected = [factors[number] for number in (0, 0, 1, 1, 2, 2)]
    assert [factor(step) for step in steps] == pytest.approx(expected, rel=1e-12)


def test_the_cosine_warms_up_and_ends_low() -> None:
    def factor(fraction: float) -> float:
        return learning_rate_factor("cosine", fraction)

    assert factor(0) == 0.01
    assert factor(0.025) == pytest.approx(0.5)
    assert factor(0.05) == pytest.approx(1)
    assert factor(0.525) == pytest.approx((1 + 0.01) / 2)  # half way down
    assert factor(1) == pytest.approx(0.01)
    rising = [factor(n / 1000) for n in range(51)]
    falling = [factor(n / 1000) for n in range(50, 1001)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert max(abs(b - a) for a, b in itertools.pairwise(falling)) < math.pi / 1000


def test_constant_is_constant() -> None:
    assert {learning_rate_factor("constant", n / 10) for n in range(11)} == {1.0}
