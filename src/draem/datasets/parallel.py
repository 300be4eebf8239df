"""Work on many files, several at once."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 8
_WAITING = 64
"""Items that are given to the threads ahead of their use: a folder may hold a million."""

_noted: set[int] = set()


def note_thread() -> None:
    """Let no fork happen while this thread is ending; called in the thread.

    A thread that ends has a lock of OpenCV for a moment. A fork at that moment would wait for it.
    """
    _noted.add(threading.get_native_id())


def _wait_for_ending_threads() -> None:
    running = {thread.native_id for thread in threading.enumerate()}
    latest = time.monotonic() + 1
    for thread in _noted - running:
        # Python says that a thread has ended a little before the system does.
        while Path(f"/proc/self/task/{thread}").exists() and time.monotonic() < latest:
            time.sleep(0.001)
        _noted.discard(thread)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_ending_threads)


@contextmanager
def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[Iterator[R]]:
    """The results of work on items, in their order; leaving early gives up what is not begun.

    Args:
        work: Done in the threads.
        items: What it is done on.
    """
    pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), initializer=note_thread)
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
