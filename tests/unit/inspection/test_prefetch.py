from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from draem.inspection.prefetch import prefetch


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_items_come_unchanged_and_in_order(count: int, depth: int) -> None:
    assert list(prefetch(iter(range(count)), depth)) == list(range(count))


def test_making_and_using_overlap() -> None:
    def made() -> Iterator[int]:
        for number in range(6):
            time.sleep(0.05)
            yield number

    started = time.perf_counter()
    for _ in prefetch(made()):
        time.sleep(0.05)
    # One after the other it would take 0.6 s.
    assert time.perf_counter() - started < 0.5


def test_no_more_items_are_made_than_may_wait() -> None:
    made: list[int] = []

    def making() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    items = prefetch(making(), depth=2)
    for _ in range(3):
        next(items)
    time.sleep(0.1)
    assert len(made) <= 3 + 2
    items.close()
    assert len(made) <= 3 + 2


def test_who_stops_early_does_not_wait_for_the_next_item() -> None:
    delivers = threading.Event()

    def camera() -> Iterator[int]:
        yield 1
        delivers.wait()
        yield 2

    items = prefetch(camera())
    assert next(items) == 1
    started = time.perf_counter()
    items.close()
    assert time.perf_counter() - started < 1
    delivers.set()


def test_the_other_thread_ends_with_the_iteration() -> None:
    before = set(threading.enumerate())
    items = prefetch(iter(range(100)))
    next(items)
    (maker,) = set(threading.enumerate()) - before
    items.close()
    maker.join(timeout=5)
    assert not maker.is_alive()


def test_an_error_is_raised_where_its_item_would_come() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("lost the camera")

    items = prefetch(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="lost the camera"):
        next(items)
    assert list(items) == []


def test_items_are_made_in_one_other_thread() -> None:
    threads = set(prefetch(threading.current_thread().name for _ in range(5)))
    assert len(threads) == 1
    assert threading.current_thread().name not in threads
