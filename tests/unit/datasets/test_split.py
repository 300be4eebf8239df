from __future__ import annotations

import numpy as np
import pytest

from draem.datasets.split import train_held_out_split


@pytest.mark.parametrize(
    ("count", "share", "wanted"),
    [(10, 0.0, 0), (10, 0.1, 1), (3, 0.1, 1), (100, 0.254, 25), (5, 0.99, 4), (1, 0.5, 0)],
)
def test_images_are_held_out_once_each(count: int, share: float, wanted: int) -> None:
    held_out, kept = train_held_out_split(count, share, seed=3)

    assert len(held_out) == wanted
    assert sorted([*held_out, *kept]) == list(range(count))
    assert list(held_out) == sorted(held_out)
    assert list(kept) == sorted(kept)


def test_the_seed_decides_which_are_held_out() -> None:
    first, again, other = (train_held_out_split(200, 0.3, seed)[0] for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
