from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import draem
from draem.model_card import Calibration
from draem.reporting.card_page import card_page
from tests.support import model_card


def test_a_card_says_what_the_file_says(tiny_model: Path) -> None:
    card = draem.load(tiny_model).card
    page = card_page(card, tiny_model)
    _, head, text = page.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "draem"
    assert card.calibration is not None
    assert f"{card.calibration.threshold:.6g}" in text
    assert f"`{card.fingerprint}`" in text
    assert "pip install 'draem[train]'" in text
    assert f"draem inspect {tiny_model.name}" in text


@pytest.mark.parametrize(
    "calibration", [None, Calibration(threshold=0.5, false_reject_rate=0.1, images=9)]
)
def test_a_table_is_whole(calibration: Calibration | None) -> None:
    page = card_page(model_card(calibration=calibration, figures={"val_loss": 0.5}), "parts.onnx")
    assert "pip install 'draem'" in page
    assert ("None: `draem calibrate`" in page) == (calibration is None)
    assert "| val_loss | 0.5000 |" in page
    assert "\n\n\n" not in page
    for block in page.split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("|"):
            assert len({line.count("|") for line in lines}) == 1
