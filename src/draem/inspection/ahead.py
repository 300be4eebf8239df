"""Work done ahead of its use, so that decoding, inference and writing overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, the next few of them made in another thread while one is in use.

    What making an item raises is raised where the item is asked for, and ends the iteration.

    Args:
        items: Any iterable; the other thread alone runs it.
        depth: How many items may wait.

    Example:
        >>> list(ahead(number**2 for number in range(4)))
        [0, 1, 4, 9]
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "draem-ahead") as maker:
        waiting = deque(maker.submit(next, iterator, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(maker.submit(next, iterator, _END))
            yield item
