"""Files of format 1, made by draem 0.1.0, in which the card repeated the network's options."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.config import ResolvedNetworkConfig
from draem.errors import DraemWarning
from draem.inspection.calibrate_model import calibrate_model
from draem.inspection.loading import load
from draem.model_card import FORMAT
from draem.model_file import read_card
from draem.training.recipe import make_recipe

DATA = Path(__file__).parents[1] / "data" / "format-1"
EXPECTED = json.loads((DATA / "expected.json").read_text())
MODELS = pytest.mark.parametrize("name", EXPECTED)
pytestmark = pytest.mark.filterwarnings("ignore::draem.errors.DraemWarning")


@MODELS
def test_a_model_of_format_1_inspects_as_before(name: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)

    found = load(DATA / f"{name}.safetensors", device="cpu").inspect(image)

    assert found.anomaly_score == pytest.approx(EXPECTED[name]["score"], abs=1e-6)
    assert found.anomaly_map.mean() == pytest.approx(EXPECTED[name]["map_mean"], abs=1e-6)
    assert found.decision == EXPECTED[name]["decision"]


@MODELS
def test_a_model_of_format_1_loads_with_a_warning(name: str) -> None:
    with pytest.warns(DraemWarning, match=rf"{name}\.safetensors: .*without a hash"):
        load(DATA / f"{name}.safetensors", device="cpu")


@MODELS
def test_a_card_of_format_1_says_the_same_in_the_new_one(name: str) -> None:
    card = read_card(DATA / f"{name}.safetensors")

    assert card.format == FORMAT
    assert card.recipe is not None
    assert card.recipe.network == card.network
    assert card.network.architecture == "compact"
    assert (card.network.tile, card.network.overlap) == (
        (32, 4) if name == "tiled" else (None,) * 2
    )
    assert (card.region_of_interest is not None) == (name == "roi")
    assert card.recipe == make_recipe(file=DATA / f"{name}.toml").resolve()
    assert type(card).model_validate_json(card.model_dump_json()) == card


def test_a_model_of_format_1_can_be_calibrated(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(DATA / "whole.safetensors", path)
    before = read_card(path)
    images = tmp_path / "good"
    images.mkdir()

    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")

    calibrate_model(path, images, false_reject_rate=0.1)

    with warnings.catch_warnings(action="error"):  # the card has a hash now
        after = read_card(path)
    assert after.calibration != before.calibration
    assert after.replace(calibration=None) == before.replace(calibration=None)


def test_every_network_option_is_in_the_card() -> None:
    card = read_card(DATA / "whole.safetensors")
    assert card.model_dump()["network"].keys() == ResolvedNetworkConfig.model_fields.keys()


def test_a_card_without_groups_loads() -> None:
    card = read_card(DATA / "whole.safetensors")

    assert card.recipe is not None
    assert card.recipe.training.group_by == "auto"
    assert card.calibration is not None
    assert card.calibration.parts == card.calibration.images
    assert card.training_set is not None
    assert card.training_set.held_out is None
