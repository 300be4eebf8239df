"""Work done ahead of its use, so that decoding, inference and writing overlap."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

from draem.datasets.parallel import note_thread

T = TypeVar("T")

_END: Any = object()


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, the next few of them made in another thread while one is in use.

    What making an item raises is raised where the item is asked for, and ends the iteration. Who
    stops early does not wait for an item in the making: a camera may never deliver another.

    Args:
        items: Any iterable; the other thread alone runs it.
        depth: How many items may wait.

    Example:
        >>> list(prefetch(number**2 for number in range(4)))
        [0, 1, 4, 9]
    """
    room, stopped = threading.Semaphore(depth), threading.Event()
    waiting: SimpleQueue[tuple[T, BaseException | None]] = SimpleQueue()

    def make() -> None:
        note_thread()
        iterator = iter(items)
        item: T | None = None
        while item is not _END:
            room.acquire()
            if stopped.is_set():
                return
            try:
                item = next(iterator, _END)
                waiting.put((item, None))
            except BaseException as error:
                waiting.put((_END, error))
                return

    threading.Thread(target=make, name="draem-ahead", daemon=True).start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
