"""The score histogram: good images above the line, defective ones below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from draem.evaluation.outcome import ScoredImage
from draem.reporting.axes import Floats, ScoreAxis, Tick, choose_axis, nice_step
from draem.reporting.wording import count_text, percent_sign, score_text

Numbers = NDArray[np.int64]

_BARS = 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, as a rectangle in percent of the chart from its top left corner.

    Attributes:
        x: Its left side.
        y: Its upper side.
        width: Its width.
        height: Its height.
        text: What it counts.
    """

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """A mirrored histogram, ready to draw.

    Attributes:
        axis: The score axis.
        x_ticks: Its marks.
        y_ticks: Marks of shares, from the top downwards.
        baseline: Where bars begin, in percent from the top.
        good: Bars of the good images, upwards.
        defective: Bars of the defective images, downwards.
        threshold: Its place in percent from the left, if there is one.
        threshold_text: Its value, if there is one.
        review: The review threshold's place in percent from the left, if there is one.
        review_text: Its value, if there is one.
    """

    axis: ScoreAxis
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    baseline: float
    good: list[Bar]
    defective: list[Bar]
    threshold: float | None
    threshold_text: str
    review: float | None = None
    review_text: str = ""


def score_histogram(
    images: Sequence[ScoredImage], threshold: float | None, review: float | None = None
) -> Histogram:
    """Count the scores of both classes in bars, one of which begins at the threshold.

    Bars to the left of the threshold hold exactly the images that are not rejected; the review
    threshold may be within a bar. Heights are shares of a class, on one scale for both.
    """
    scores = np.array([image.anomaly_score for image in images], dtype=np.float64)
    labels = np.array([image.label for image in images], dtype=np.int64)
    levels = [level for level in (threshold, review) if level is not None]
    axis = choose_axis(np.append(scores, levels))
    start = 0.0 if threshold is None else float(axis.place(np.array([threshold]))[0])
    numbers = _bar_numbers(scores, threshold, axis.place(scores), start)
    good, defective = _count(numbers[labels == 0]), _count(numbers[labels == 1])
    up, down = _tallest(good), _tallest(defective)
    step = nice_step((up + down) / 4) if up + down else 0.25
    up, down = _rounded_up(up, step), _rounded_up(down, step)
    scale = 100 / (up + down)
    return Histogram(
        axis=axis,
        x_ticks=[replace(tick, at=_drawn(tick.at / 100)) for tick in axis.ticks()],
        y_ticks=_share_ticks(up, down, step),
        baseline=scale * up,
        good=_bars(good, start, scale, scale * up, -1, "good image"),
        defective=_bars(defective, start, scale, scale * up, 1, "defective image"),
        threshold=None if threshold is None else _drawn(start),
        threshold_text="" if threshold is None else score_text(threshold),
        review=None if review is None else _drawn(float(axis.place(np.array([review]))[0])),
        review_text="" if review is None else score_text(review),
    )


def _bar_numbers(scores: Floats, threshold: float | None, places: Floats, start: float) -> Numbers:
    """The bar of each score, counted from the threshold; the axis is 40 bars wide."""
    numbers = np.floor((places - start) * _BARS).astype(np.int64)
    if threshold is None:
        return numbers
    # Two scores may share a place at an end of the axis; the verdict decides their side.
    return np.where(scores >= threshold, np.maximum(numbers, 0), np.minimum(numbers, -1))


def _count(numbers: Numbers) -> dict[int, int]:
    values, counts = np.unique(numbers, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _tallest(counts: dict[int, int]) -> float:
    return max(counts.values()) / sum(counts.values()) if counts else 0.0


def _rounded_up(share: float, step: float) -> float:
    return max(1, math.ceil(share / step - 1e-9)) * step


def _share_ticks(up: float, down: float, step: float) -> list[Tick]:
    above, below = round(up / step), round(down / step)
    return [
        Tick(100 * (above - index) / (above + below), f"{100 * abs(index) * step:g}%")
        for index in range(above, -below - 1, -1)
    ]


def _bars(
    counts: dict[int, int],
    start: float,
    scale: float,
    baseline: float,
    direction: Literal[-1, 1],
    noun: str,
) -> list[Bar]:
    total = sum(counts.values())
    bars = []
    for number, count in counts.items():
        left = _drawn(start + number / _BARS)
        height = scale * count / total
        top = baseline - height if direction < 0 else baseline
        text = f"{count_text(count, noun)} ({percent_sign(count / total)})"
        bars.append(Bar(left, top, 100 / (_BARS + 2), height, text))
    return bars


def _drawn(place: float) -> float:
    """A place on the axis in percent of the chart, which has room for one more bar at each end."""
    return 100 * (_BARS * place + 1) / (_BARS + 2)
