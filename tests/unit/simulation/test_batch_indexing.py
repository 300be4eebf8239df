from __future__ import annotations

import pytest
import torch

from draem.simulation.batch_indexing import in_parts, pick, put, rows_of, rows_where, take
from draem.simulation.windows import Windows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([0, 1, 2], slice(0, 3)),
        ([0], slice(0, 1)),
        ([2, 3], slice(2, 4)),
        ([3], slice(3, 4)),
    ],
)
def test_rows_that_follow_each_other_are_a_slice(rows: list[int], expected: slice) -> None:
    assert rows_of(rows) == expected


def test_other_rows_are_indices() -> None:
    rows = rows_of([0, 2, 3])

    assert isinstance(rows, torch.Tensor)
    assert rows.tolist() == [0, 2, 3]


def test_rows_are_those_that_are_true() -> None:
    assert rows_where(torch.tensor([False, True, True])) == slice(1, 3)
    assert rows_where(torch.tensor([False, False])) is None
    rows = rows_where(torch.tensor([True, False, True]))
    assert isinstance(rows, torch.Tensor)
    assert rows.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("count", "side", "threads", "sizes"),
    [
        (5, 256, 1, [1, 1, 1, 1, 1]),
        (5, 256, 2, [2, 2, 1]),
        (5, 128, 1, [4, 1]),
        (3, 1024, 2, [2, 1]),
        (0, 256, 1, []),
    ],
)
def test_a_thread_of_a_cpu_works_on_a_picture_of_256_at_once(
    monkeypatch: pytest.MonkeyPatch, count: int, side: int, threads: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    parts = list(in_parts(count, side * side, torch.device("cpu")))

    assert [len(range(count)[part]) for part in parts] == sizes
    assert [row for part in parts for row in range(count)[part]] == list(range(count))


def test_other_devices_take_everything_at_once() -> None:
    assert list(in_parts(9, 1024 * 1024, torch.device("cuda"))) == [slice(0, 9)]
    assert list(in_parts(0, 1024 * 1024, torch.device("cuda"))) == []


@pytest.mark.parametrize("rows", [slice(None), slice(1, 3), torch.tensor([0, 3])])
def test_what_is_picked_can_be_put_back(rows: slice | torch.Tensor) -> None:
    values = torch.arange(24.0).view(4, 2, 3)
    changed = values.clone()

    put(changed, rows, pick(values, rows) + 100)

    expected = values.clone()
    expected[rows] += 100
    assert torch.equal(changed, expected)
    assert not torch.equal(changed, values)


def test_rows_are_taken_of_every_tensor() -> None:
    each = torch.arange(4.0)
    windows = Windows(each, each, each, each, each, each > 1)

    taken = take(windows, slice(1, 3))

    assert taken.mirrored.tolist() == [False, True]
    assert taken.pictures.tolist() == [1, 2]
