from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from draem.simulation import preview_sheet
from draem.simulation.preview_sheet import simulation_sheet, to_pictures
from draem.simulation.simulator import SimulatedBatch


def batch() -> SimulatedBatch:
    normal = torch.zeros(2, 3, 16, 24)
    normal[:, 1] = 0.8
    simulated, mask = normal.clone(), torch.zeros(2, 1, 16, 24)
    simulated[0, 0, 4:8] = 0.6
    mask[0, 0, 4:8] = 1
    return SimulatedBatch(normal, simulated, mask, torch.tensor([0.6, 0.3]))


def test_tensors_become_pictures() -> None:
    values = torch.tensor([-0.5, 0.0, 0.2, 0.999, 1.0, 7.0])
    images = values.view(1, 1, 2, 3).expand(2, 3, 2, 3).clone()
    images[1, 2] = 0.5

    pictures = to_pictures(images)

    assert pictures.shape == (2, 2, 3, 3)
    assert pictures.dtype == np.uint8
    assert pictures[0, ..., 0].ravel().tolist() == [0, 0, 51, 255, 255, 255]
    assert set(pictures[1, ..., 2].ravel().tolist()) == {128}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_precision_become_pictures(dtype: torch.dtype) -> None:
    pictures = to_pictures(torch.full((1, 3, 2, 2), 0.5, dtype=dtype))

    assert set(pictures.ravel().tolist()) == {128}


def test_levels_survive_the_way_to_tensors_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)

    pictures = to_pictures(levels.float() / 255)

    assert np.array_equal(pictures[0], levels[0].permute(1, 2, 0).numpy())


def test_the_sheet_shows_image_simulation_and_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, Any] = {}

    def note(
        rows: Sequence[Any], columns: Sequence[str], **titles: Any
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        shown.update(rows=rows, columns=columns, **titles)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(preview_sheet, "contact_sheet", note)

    simulation_sheet(batch(), "Samples")

    assert list(shown["columns"]) == ["normal", "simulated", "mask"]
    assert shown["title"] == "Samples"
    assert shown["row_titles"] == ["opacity 0.60", "stays normal"]
    normal, simulated, mask = shown["rows"][0]
    assert normal[5, 0].tolist() == [0, 204, 0]
    assert simulated[5, 0].tolist() == [153, 204, 0]
    assert (mask.shape, mask[5, 0], mask[0, 0]) == ((16, 24), 255, 0)


def test_the_sheet_is_one_picture_with_all_of_them() -> None:
    page = simulation_sheet(batch(), "Samples")

    assert page.dtype == np.uint8
    assert page.ndim == 3
    pixels = page.reshape(-1, 3)
    for color, least in (((0, 204, 0), 3), ((153, 204, 0), 0.2), ((255, 255, 255), 0.2)):
        area = (pixels == np.array(color)).all(1).sum()
        assert area > least * 192 * 128
