from __future__ import annotations

import numpy as np
import pytest

from draem.datasets.likeness import look_at, warn_of_dark_or_flat


def picture(highest: int, seed: int = 0) -> np.ndarray:
    levels = np.random.default_rng(seed).integers(0, highest + 1, (32, 32, 3), np.uint8)
    levels[0, 0] = highest
    return levels


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([16, 11], "brightest level of all images is 16 of 255"),
        ([17, 11], None),
        ([255], None),
        ([0, 0], "2 of 2 images without any contrast"),
        ([0, 200, 200], "1 of 3 images without any contrast"),
    ],
)
def test_one_warning_if_there_is_next_to_nothing_to_see(
    levels: list[int], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    looks = [look_at(picture(highest, seed)) for seed, highest in enumerate(levels)]
    warn_of_dark_or_flat(looks)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * (said is not None)
    if said:
        assert said in caplog.text
