"""The score axis of the histogram: linear where scores spread, log-odds where they crowd."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from draem.reporting.wording import power_of_ten

AxisKind = Literal["linear", "logit"]
Floats = NDArray[np.float64]

_SMALLEST = 1e-7
_NEAR_AN_END = 1 / 40
_CROWD = 0.25
_MOST_TICKS_ON_A_PHONE = 7


@dataclass(frozen=True, slots=True)
class Tick:
    """One mark on an axis.

    Attributes:
        at: Its place in percent of the axis.
        label: What stands next to it.
        minor: Left out on narrow screens.
    """

    at: float
    label: str
    minor: bool = False


@dataclass(frozen=True, slots=True)
class ScoreAxis:
    """A scale for scores.

    Attributes:
        kind: `linear`, or `logit` for log10(score / (1 - score)).
        low: The left end, on the scale.
        high: The right end, on the scale.
        step: Between ticks of a linear axis.
    """

    kind: AxisKind
    low: float
    high: float
    step: float = 1.0

    def place(self, scores: Floats) -> Floats:
        """Where scores lie, 0 at the left end and 1 at the right; beyond an end is at it."""
        scaled = _logit(scores) if self.kind == "logit" else scores
        return np.clip((scaled - self.low) / (self.high - self.low), 0.0, 1.0)

    def ticks(self) -> list[Tick]:
        """The marks, from left to right."""
        return _logit_ticks(self) if self.kind == "logit" else _linear_ticks(self)


def choose_axis(scores: Floats) -> ScoreAxis:
    """A scale on which these scores can be told apart.

    Scores are spread by log-odds if more than a quarter of them are within 1/40 of an end;
    a linear axis runs from 0 to 1, or closer round scores that are close together.

    Args:
        scores: (images,) in [0, 1]; may be empty.
    """
    if scores.size == 0:
        return ScoreAxis("linear", 0.0, 1.0, 0.2)
    near_an_end = (scores < _NEAR_AN_END) | (scores > 1 - _NEAR_AN_END)
    if near_an_end.mean() > _CROWD:
        return _logit_axis(scores)
    return _linear_axis(float(scores.min()), float(scores.max()))


def nice_step(span: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least `span`.

    Examples:
        >>> nice_step(0.03), nice_step(0.6)
        (0.05, 1.0)
    """
    power = 10.0 ** math.floor(math.log10(span))
    return next(
        round(factor * power, 12) for factor in (1, 2, 5, 10) if factor * power >= span * (1 - 1e-9)
    )


def _linear_axis(lowest: float, highest: float) -> ScoreAxis:
    if highest - lowest > 0.4:
        return ScoreAxis("linear", 0.0, 1.0, 0.2)
    room = max(0.0, 0.01 - (highest - lowest)) / 2
    lowest, highest = lowest - room, highest + room
    step = nice_step((highest - lowest) / 5)
    low = max(0.0, math.floor(lowest / step + 1e-9) * step)
    high = min(1.0, math.ceil(highest / step - 1e-9) * step)
    return ScoreAxis("linear", low, high, step)


def _logit_axis(scores: Floats) -> ScoreAxis:
    scaled = _logit(scores)
    low, high = math.floor(scaled.min()), math.ceil(scaled.max())
    return ScoreAxis("logit", low, high) if high - low > 1 else ScoreAxis("logit", low - 1, low + 1)


def _logit(scores: Floats) -> Floats:
    inside = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    scaled: Floats = np.log10(inside) - np.log10(1 - inside)
    return scaled


def _linear_ticks(axis: ScoreAxis) -> list[Tick]:
    count = round((axis.high - axis.low) / axis.step)
    decimals = max(1, -math.floor(math.log10(axis.step) + 1e-9))
    values = [axis.low + index * axis.step for index in range(count + 1)]
    crowded = len(values) > _MOST_TICKS_ON_A_PHONE
    return [
        Tick(
            100 * (value - axis.low) / (axis.high - axis.low),
            f"{value:.{decimals}f}",
            minor=crowded and index % 2 == 1,
        )
        for index, value in enumerate(values)
    ]


def _logit_ticks(axis: ScoreAxis) -> list[Tick]:
    powers = range(-7, 8)
    scores = np.array([_score_at(power) for power in powers])
    inside = [
        (power, scaled)
        for power, scaled in zip(powers, _logit(scores), strict=True)
        if axis.low <= scaled <= axis.high
    ]
    crowded = len(inside) > _MOST_TICKS_ON_A_PHONE
    return [
        Tick(
            100 * (float(scaled) - axis.low) / (axis.high - axis.low),
            _tick_label(power),
            minor=crowded and power % 2 == 1,
        )
        for power, scaled in inside
    ]


def _score_at(power: int) -> float:
    if power == 0:
        return 0.5
    return 10.0**power if power < 0 else 1 - 10.0**-power


def _tick_label(power: int) -> str:
    if -4 <= power <= 4:
        return f"{_score_at(power):.{max(1, abs(power))}f}"
    return power_of_ten(power) if power < 0 else f"1−{power_of_ten(-power)}"
