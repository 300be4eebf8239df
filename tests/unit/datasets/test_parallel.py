from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_before_a_fork_all_threads_have_really_ended() -> None:
    for _ in range(50):
        used: set[int] = set()
        with in_threads(lambda _, used=used: used.add(threading.get_native_id()), range(8)) as done:
            list(done)
        parallel._wait_for_ending_threads()  # what os.fork calls first
        assert used
        assert not [each for each in used if Path(f"/proc/{os.getpid()}/task/{each}").exists()]
    assert not parallel._noted & used
