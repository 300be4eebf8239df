from __future__ import annotations

from collections.abc import Iterator

from draem.datasets import parallel
from draem.datasets.parallel import in_threads


def test_results_come_in_order() -> None:
    with in_threads(lambda number: number * number, range(1000)) as found:
        assert list(found) == [number * number for number in range(1000)]


def test_few_items_wait_however_many_there_are() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10**9):
            taken += 1
            yield number

    with in_threads(str, items()) as found:
        for number in range(200):
            assert next(found) == str(number)
            assert taken <= number + parallel._WAITING
