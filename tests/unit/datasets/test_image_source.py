from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from draem.datasets.image_source import ImageSource, in_memory


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("on_disk", [False, True])
def test_images_are_put_in_another_order(tmp_path: Path, seed: int, on_disk: bool) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (9, 3, 2, 4), np.uint8)
    order = rng.permutation(9)
    source = in_memory(images.copy())
    if on_disk:
        np.save(tmp_path / "all.npy", images)
        rows = tuple((tmp_path / "all.npy", row) for row in range(9))
        source = ImageSource(images.shape, None, rows, tmp_path)

    np.testing.assert_array_equal(source.reorder(order).take(range(9)), images[order])


def test_images_in_memory_are_moved_and_not_copied() -> None:
    source = in_memory(np.zeros((3, 3, 2, 2), np.uint8))

    assert source.reorder(np.array([2, 0, 1])).pixels is source.pixels
