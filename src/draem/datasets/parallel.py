"""Work on many files, several at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 8
_WAITING = 64
"""Items that are given to the threads ahead of their use: a folder may hold a million."""


@contextmanager
def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[Iterator[R]]:
    """The results of work on items, in their order; leaving early gives up what is not begun.

    Args:
        work: Done in the threads.
        items: What it is done on.
    """
    pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
    try:
        yield _in_order(pool, work, items)
    finally:
        # An interrupted user does not wait for the items that are left.
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= _WAITING:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
