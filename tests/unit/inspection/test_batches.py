"""Batches give what images give one by one, and no runtime is called once per image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from draem.inspection.folder import inspect_files
from draem.inspection.inspector import Inspector
from draem.inspection.loading import load
from draem.inspection.runtime import RuntimeOutput


class Counted:
    """Notes how many images each call of a runtime is given."""

    def __init__(self, inspector: Inspector) -> None:
        self.sizes: list[int] = []
        self._run = inspector._runtime.run
        inspector._runtime.run = self.run

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        self.sizes.append(len(images))
        return self._run(images)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (60 + 5 * n, 90 - n, 3), np.uint8) for n in range(count)]


def test_a_batch_is_what_its_images_are_alone(tiny_model: Path) -> None:
    inspector = load(tiny_model, device="cpu")
    images = pictures(20)
    alone = [inspector.inspect(image) for image in images]
    counted = Counted(inspector)

    together = inspector.inspect(images)

    assert counted.sizes == [16, 4]
    for one, other in zip(alone, together, strict=True):
        assert one.anomaly_score == pytest.approx(other.anomaly_score, abs=1e-6)
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)
        assert [region.box for region in one.regions] == [region.box for region in other.regions]


def test_an_array_of_images_is_a_batch(red_inspector: Callable[..., Inspector]) -> None:
    inspector = red_inspector()
    counted = Counted(inspector)
    assert len(inspector.inspect(np.zeros((5, 40, 50, 3), np.uint8))) == 5
    assert counted.sizes == [5]


@pytest.mark.parametrize(("side", "batch"), [(64, 16), (128, 16), (256, 4), (512, 1), (1024, 1)])
def test_larger_inputs_take_smaller_batches(
    red_inspector: Callable[..., Inspector], side: int, batch: int
) -> None:
    assert red_inspector(image_size=(side, side)).batch_size == batch


def test_a_camera_gets_each_result_at_once(red_inspector: Callable[..., Inspector]) -> None:
    inspector = red_inspector()
    counted = Counted(inspector)
    assert len(list(inspector.inspect(iter(pictures(5))))) == 5
    assert counted.sizes == [1] * 5


def test_a_folder_is_inspected_in_batches_after_the_first_image(
    red_inspector: Callable[..., Inspector],
    save_image: Callable[[Path, NDArray[np.uint8]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [save_image(tmp_path / f"{n}.png", image) for n, image in enumerate(pictures(20))]
    paths[7].write_bytes(b"no image")
    inspector = red_inspector()
    counted = Counted(inspector)

    summary = inspect_files(inspector, paths, tmp_path / "out")

    assert counted.sizes == [1, 15, 3]
    assert [path for path, _ in summary.failures] == [paths[7]]
    counted.sizes.clear()
    monkeypatch.setattr("draem.inspection.folder._BATCH_BYTES", 3 * paths_bytes(paths))
    inspect_files(inspector, paths, tmp_path / "out")
    assert max(counted.sizes) < 8


def paths_bytes(paths: list[Path]) -> int:
    """Roughly the bytes of one decoded image."""
    return max(image.nbytes for image in pictures(len(paths)))
