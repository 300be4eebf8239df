from __future__ import annotations

import numpy as np
import pytest

from draem.datasets.split import group_folds, train_held_out_split
from draem.errors import DatasetError


@pytest.mark.parametrize(
    ("count", "share", "wanted"),
    [(10, 0.0, 0), (10, 0.1, 1), (3, 0.1, 1), (100, 0.254, 25), (5, 0.99, 4), (1, 0.5, 0)],
)
def test_images_are_held_out_once_each(count: int, share: float, wanted: int) -> None:
    held_out, kept = train_held_out_split(np.arange(count), share, seed=3)

    assert len(held_out) == wanted
    assert sorted([*held_out, *kept]) == list(range(count))
    assert list(held_out) == sorted(held_out)
    assert list(kept) == sorted(kept)


def test_the_seed_decides_which_are_held_out() -> None:
    first, again, other = (train_held_out_split(np.arange(200), 0.3, seed)[0] for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_that_each_are_a_group_are_split_as_before_there_were_groups() -> None:
    held_out, _ = train_held_out_split(np.arange(10), 0.3, seed=0)

    assert list(held_out) == sorted(np.random.default_rng([0, 1]).permutation(10)[:3])


def uneven_groups(seed: int, largest: int = 7) -> np.ndarray:
    """Groups of up to so many images, in mixed order."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, largest + 1, 40)
    return rng.permutation(np.repeat(np.arange(40), sizes))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(20))
def test_groups_are_never_cut(share: float, seed: int) -> None:
    groups = uneven_groups(seed)

    held_out, kept = train_held_out_split(groups, share, seed)

    assert not set(groups[held_out]) & set(groups[kept])
    assert sorted([*held_out, *kept]) == list(range(len(groups)))
    assert abs(len(held_out) - share * len(groups)) <= 7
    assert len(held_out)
    assert len(kept)


def test_a_group_that_is_too_large_stays_in_training() -> None:
    groups = np.repeat(np.arange(11), [100, *[1] * 10])

    for seed in range(20):
        held_out, _ = train_held_out_split(groups, 0.05, seed)
        assert len(held_out) == 6


def test_large_groups_alone_are_held_out_one_at_least() -> None:
    groups = np.repeat(np.arange(4), 25)

    assert [len(part) for part in train_held_out_split(groups, 0.1, 0)] == [25, 75]


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match=r"7 images are in one group.*`image`.*`held_out_share`"):
        train_held_out_split(np.zeros(7, np.int64), 0.1, 0)
    held_out, kept = train_held_out_split(np.zeros(7, np.int64), 0.0, 0)
    assert (len(held_out), len(kept)) == (0, 7)


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("seed", range(10))
def test_folds_are_even_and_cut_no_group(folds: int, seed: int) -> None:
    groups = uneven_groups(seed)

    found = group_folds(groups, folds, seed)

    sizes = np.bincount(found)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 2
    assert len(set(zip(groups, found, strict=True))) == len(set(groups))


def test_folds_follow_from_the_seed() -> None:
    groups = 3 * np.arange(50)  # a part of a larger set: numbers are missing
    first, again, other = (group_folds(groups, 5, seed) for seed in (1, 1, 2))

    assert list(np.bincount(first)) == [10] * 5
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"6 images in 2 groups.*at least 3 groups"):
        group_folds(np.repeat([0, 1], 3), 3, 0)
