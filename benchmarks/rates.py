"""What this machine reaches at best, to state a floor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch


def copied_per_second() -> float:
    """Bytes read and written a second by one thread, far beyond the cache."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(_seconds(lambda: target.copy_(source), 7))


def multiplied_per_second() -> float:
    """Multiplications a second that torch does in place on what is in one core's cache."""
    values = torch.ones(2**14)

    def multiply() -> None:
        for _ in range(100):
            values.mul_(values)

    return 100 * len(values) / min(_seconds(multiply, 7))


def _seconds(work: Callable[[], object], times: int) -> Iterator[float]:
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        yield time.perf_counter() - started
