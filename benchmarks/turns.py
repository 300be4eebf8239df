"""Lets the sides of a benchmark take turns, so that all of them see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Turn = Callable[[], float]
"""Takes one turn and says how many seconds it took."""


def timed(work: Callable[[], object]) -> Turn:
    """Work as a turn."""

    def take() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return take


def in_turn(sides: Mapping[str, Turn], rounds: int) -> dict[str, list[float]]:
    """The seconds of every turn, by side; one more turn of each before them warms up."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, take in sides.items():
            # The pools of the side before keep spinning for a moment.
            time.sleep(0.05)
            seconds = take()
            if number:
                taken[name].append(seconds)
    return taken
