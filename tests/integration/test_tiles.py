"""Large images: trained on, inspected and measured by tiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import draem
from draem.inspection.loading import load
from draem.model_file import read_card
from draem.training.images import read_run_images
from draem.training.recipe import make_recipe

Cli = Callable[..., "object"]
SIZES = [(48, 80), (100, 60), (20, 30), (64, 64), (33, 130), (70, 70)]


def part(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    stripes = 90 + 40 * np.sin(np.arange(size[1]) / 3)[None, :, None]
    return np.clip(stripes + rng.normal(0, 8, (*size, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def sizes_mixed(tmp_path: Path) -> Path:
    """A category of images of many sizes, one of them smaller than a tile."""
    rng, root = np.random.default_rng(0), tmp_path / "large part"
    for folder in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    for index, size in enumerate(SIZES):
        cv2.imwrite(str(root / f"train/good/{index}.png"), part(rng, size))
        cv2.imwrite(str(root / f"test/good/{index}.png"), part(rng, size))
        image, mask = part(rng, size), np.zeros(size, np.uint8)
        mask[5:11, 8:14] = 255
        image[mask > 0] = 250
        cv2.imwrite(str(root / f"test/spot/{index}.png"), image)
        cv2.imwrite(str(root / f"ground_truth/spot/{index}_mask.png"), mask)
    return root


def train(cli: Cli, data: Path, run: Path, recipe: Path, *options: object) -> object:
    return cli(
        *("train", data, "--out", run, "--recipe", recipe, "--steps", 3, "--device", "cpu"),
        *options,
    )


@pytest.mark.parametrize("profile", ["varied", "paper"])
def test_train_by_tiles_then_inspect_and_evaluate(
    draem_cli: Cli, sizes_mixed: Path, tiny_recipe: Path, tmp_path: Path, profile: str
) -> None:
    run = tmp_path / "run"
    text = tiny_recipe.read_text(encoding="utf-8")
    if profile == "paper":
        text = text.replace("crop = 32", 'profile = "paper"')
    tiny_recipe.write_text(text, encoding="utf-8")
    outcome = train(draem_cli, sizes_mixed, run, tiny_recipe, "--tile", 32, "--overlap", 8)
    assert outcome.status == 0, outcome.err
    assert "(1 calibration image)" in outcome.err

    card = read_card(run / "model.safetensors")
    assert card.network.image_size == (32, 32)
    assert card.network.overlap == 8
    assert card.training_set is not None
    assert card.training_set.images == 5
    recipe = make_recipe(file=run / "recipe.toml")
    assert (recipe.network.tile, recipe.network.overlap) == (32, 8)

    # The threshold lies just above the score of the whole image that was held out.
    inspector = load(run, device="cpu")
    (held_out,) = read_run_images(sizes_mixed, recipe).whole_held_out()
    found = inspector.inspect(held_out)
    assert found.anomaly_score == pytest.approx(inspector.threshold, rel=1e-4)
    assert found.is_anomalous is False

    for options in ((), ("--overlap", 16), ("--tile", 32)):
        out = tmp_path / "found"
        outcome = draem_cli("inspect", run, sizes_mixed / "test" / "good", "--out", out, *options)
        assert outcome.status == 0, outcome.err
        assert "warning" not in outcome.err
        lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
        for line, size in zip(map(json.loads, lines), SIZES, strict=True):
            plane = cv2.imread(str(out / line["map"]), cv2.IMREAD_UNCHANGED)
            assert plane.shape == size
            assert line["is_anomalous"] == bool(line["regions"])

    outcome = draem_cli("evaluate", run, sizes_mixed, "--out", tmp_path / "report")
    assert outcome.status == 0, outcome.err
    document = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert document["model"]["tile_overlap"] == 8
    assert 0 <= document["pixel_auroc"] <= 1
    assert "tiles that overlap by 8 pixels" in draem_cli("info", run).out


def test_a_tiled_run_goes_on_and_repeats(
    sizes_mixed: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    overrides = {"network": {"tile": 32, "image_size": (32, 32)}, "training": {"steps": 3}}
    recipe = make_recipe(file=tiny_recipe, overrides=overrides)
    first = draem.train(sizes_mixed, tmp_path / "run", recipe, device="cpu")
    (tmp_path / "run" / "model.safetensors").unlink()
    again = draem.train(sizes_mixed, tmp_path / "run", recipe, resume=True, device="cpu")
    assert again.card.fingerprint == first.card.fingerprint
    assert again.card.calibration == first.card.calibration
    assert first.card.network.overlap == 4


def test_a_model_of_resized_images_may_be_tiled_with_a_warning(
    draem_cli: Cli, sizes_mixed: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "found"
    assert train(draem_cli, sizes_mixed, run, tiny_recipe, "--image-size", 32).status == 0
    command = ("inspect", run, sizes_mixed / "test", "--out", out)
    outcome = draem_cli(*command, "--tile", 32, "--overlap", 8)
    assert outcome.status == 0, outcome.err
    assert "\nwarning: this model was trained on resized images" in outcome.err
    for options, word in (
        (("--overlap", 8), "--tile 32"),
        (("--tile", 64), "32x32"),
        (("--tile", 32, "--overlap", 17), "0 to 16 pixels"),
    ):
        outcome = draem_cli(*command, *options)
        assert outcome.status == 2
        assert "error: " in outcome.err
        assert word in outcome.err


def test_tiles_that_make_no_sense_are_refused(
    draem_cli: Cli, sizes_mixed: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    for options, word in (
        (("--tile", 33), "multiple of 32"),
        (("--tile", 32, "--overlap", 17), "more than half"),
        (("--overlap", 8), "needs `tile`"),
        (("--tile", 32, "--image-size", 64), "contradict"),
    ):
        outcome = train(draem_cli, sizes_mixed, tmp_path / "run", tiny_recipe, *options)
        assert outcome.status == 2
        assert outcome.err.startswith("error: ")
        assert word in outcome.err
    assert not (tmp_path / "run").exists()


def test_more_tiles_than_memory_are_refused(
    draem_cli: Cli,
    sizes_mixed: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("draem.datasets.decoding.available_memory", lambda: 10_000)
    outcome = train(draem_cli, sizes_mixed, tmp_path / "run", tiny_recipe, "--tile", 32)
    assert outcome.status == 2
    assert "do not fit in memory" in outcome.err
    assert not (tmp_path / "run").exists()


def test_simulate_shows_tiles(draem_cli: Cli, sizes_mixed: Path, tmp_path: Path) -> None:
    sheets = {}
    for name, options in {
        "tiles": ("--tile", 64),
        "resized": ("--image-size", 64),
        "overlap": ("--tile", 64, "--overlap", 32),
    }.items():
        out = tmp_path / f"{name}.png"
        outcome = draem_cli("simulate", sizes_mixed, "--out", out, "--samples", 3, *options)
        assert outcome.status == 0, outcome.err
        sheets[name] = out.read_bytes()
    assert len(set(sheets.values())) == 3
