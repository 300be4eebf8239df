"""`pretrained` from a folder of normal images to a model that every runtime runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import draem
from draem.errors import InputError, TrainingInterrupted
from draem.inspection.guarantee import remarks
from draem.model_file import read_card, read_model
from draem.training import fit

SIDE = 64


def part(rng: np.random.Generator, *, defect: bool = False) -> NDArray[np.uint8]:
    """A disc before grey stripes; a defect is a bright cross on the disc."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE, 3), 90.0)
    image[(columns // 4) % 2 == 0] += 20
    image[(rows - 32) ** 2 + (columns - 32) ** 2 < 400] = (180, 140, 60)
    if defect:
        image[28:31, 22:42] = 250
        image[20:40, 30:33] = 30
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def write_parts(root: Path, count: int = 12, copies: int = 1) -> Path:
    rng = np.random.default_rng(0)
    for folder, number, defect in (
        ("train/good", count, False),
        ("test/good", 4, False),
        ("test/cross", 4, True),
    ):
        (root / folder).mkdir(parents=True)
        for place in range(number):
            image = Image.fromarray(part(rng, defect=defect))
            for copy in range(copies):
                image.save(root / folder / f"{place:03d}{'abc'[copy] if copies > 1 else ''}.png")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[28:31, 22:42] = mask[20:40, 30:33] = 255
    (root / "ground_truth" / "cross").mkdir(parents=True)
    for place in range(4 * copies):
        Image.fromarray(mask).save(root / "ground_truth" / "cross" / f"{place:03d}_mask.png")
    return root


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"))


def recipe(**sections: dict[str, Any]) -> draem.Recipe:
    small = {"image_size": (SIDE, SIDE), "subspaces": 16, "subspace_rank": 4}
    network = {**small, **sections.pop("network", {})}
    given = sections.pop("training", {})
    length = {} if "minutes" in given else {"steps": 4}
    training = {"batch_size": 4, "false_reject_rate": 0.1, **length, **given}
    return draem.make_recipe(
        "pretrained", overrides={"network": network, "training": training, **sections}
    )


@pytest.fixture(scope="module")
def run(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    draem.train(parts, out, recipe(), device="cpu")
    return out


def test_finds_the_defects(parts: Path, run: Path) -> None:
    found = draem.evaluate(run / "model.safetensors", parts, device="cpu")
    assert found.metrics["image_auroc"] == 1
    assert found.metrics["pixel_auroc"] > 0.9


def test_the_threshold_is_from_all_good_images(run: Path) -> None:
    card = read_card(run / "model.safetensors")
    assert card.preset == "pretrained"
    assert card.calibration is not None
    assert card.calibration.images == 12
    assert card.calibration.cross_fitted
    assert "not guaranteed" in remarks(card.calibration)[0]
    assert card.training_set is not None
    assert card.training_set.images == 12
    assert (run / "pictures" / "samples.png").is_file()


def test_the_reconstruction_is_a_picture_of_the_part(parts: Path, run: Path) -> None:
    inspector = draem.load(run / "model.safetensors", device="cpu")
    defect = np.asarray(Image.open(parts / "test" / "cross" / "000.png"))
    found = inspector.inspect(defect)
    assert found.reconstruction is not None
    normal = np.asarray(Image.open(parts / "test" / "good" / "000.png"))
    to_normal, to_defect = (
        np.abs(found.reconstruction[20:44, 20:44].astype(float) - image[20:44, 20:44]).mean()
        for image in (normal, defect)
    )
    assert to_normal < to_defect


def test_the_same_seed_gives_the_same_model(parts: Path, run: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    draem.train(parts, tmp_path / "again", recipe(), device="cpu")
    assert torch.equal(before, torch.get_rng_state())
    ours, theirs = (
        read_model(folder / "model.safetensors")[1] for folder in (run, tmp_path / "again")
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("to", ["onnx", "openvino", "mnn"])
def test_every_runtime_says_the_same(run: Path, parts: Path, tmp_path: Path, to: Any) -> None:
    suffix = {"onnx": ".onnx", "openvino": ".xml", "mnn": ".mnn"}[to]
    exported = draem.export(
        run / "model.safetensors", to, tmp_path / f"model{suffix}", reconstruction=True
    )
    assert exported.largest_difference < 1e-4
    image = np.asarray(Image.open(parts / "test" / "cross" / "000.png"))
    scores = [
        draem.load(path, device="cpu").inspect(image).anomaly_score
        for path in (run / "model.safetensors", exported.path)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_an_interrupted_run_is_started_again(
    parts: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def pressed(_: object) -> Iterator[threading.Event]:
        event = threading.Event()
        event.set()
        yield event

    with monkeypatch.context() as patched:
        patched.setattr(fit, "stop_gently", pressed)
        with pytest.raises(TrainingInterrupted, match="stopped"):
            draem.train(parts, tmp_path / "run", recipe(), device="cpu")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    draem.train(parts, tmp_path / "run", resume=True, device="cpu")
    ours, theirs = (
        read_card(folder / "model.safetensors").fingerprint for folder in (run, tmp_path / "run")
    )
    assert ours == theirs


def test_held_out_images_set_the_threshold_if_asked_for(parts: Path, tmp_path: Path) -> None:
    held_out = recipe(training={"held_out_share": 0.25})
    found = draem.train(parts, tmp_path / "run", held_out, device="cpu")
    assert found.card.calibration is not None
    assert found.card.calibration.images == 3
    assert not found.card.calibration.cross_fitted


def test_copies_count_once(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", count=8, copies=3)
    found = draem.train(folder / "train" / "good", tmp_path / "run", recipe(), device="cpu")
    assert found.card.calibration is not None
    assert (found.card.calibration.images, found.card.calibration.parts) == (24, 8)


def test_tiles(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "large"
    folder.mkdir()
    for place in range(6):
        row = np.concatenate([part(rng), part(rng)], axis=1)
        Image.fromarray(np.concatenate([row, row])).save(folder / f"{place}.png")
    tiled = recipe(network={"tile": SIDE, "overlap": 0, "image_size": None})
    found = draem.train(folder, tmp_path / "run", tiled, device="cpu")
    assert found.card.calibration is not None
    assert (found.card.calibration.images, found.card.calibration.parts) == (24, 6)
    image = np.asarray(Image.open(folder / "0.png"))
    assert draem.load(found.model, device="cpu").inspect(image).anomaly_map.shape == (128, 128)


def test_region_of_interest(parts: Path, tmp_path: Path) -> None:
    corner = ((0.0, 0.0), (0.25, 0.0), (0.25, 0.25), (0.0, 0.25))
    limited = recipe(region_of_interest={"polygons": (corner,)})
    found = draem.train(parts, tmp_path / "run", limited, device="cpu")
    inspector = draem.load(found.model, device="cpu")
    image = np.asarray(Image.open(parts / "test" / "cross" / "000.png"))
    assert not inspector.inspect(image).anomaly_map[20:].any()


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_images(tmp_path: Path, count: int) -> None:
    folder = write_parts(tmp_path / "parts", count=count)
    found = draem.train(folder, tmp_path / "run", recipe(), device="cpu")
    image = np.asarray(Image.open(folder / "test" / "cross" / "000.png"))
    assert np.isfinite(draem.load(found.model, device="cpu").inspect(image).anomaly_score)


def test_minutes_end_the_run(parts: Path, tmp_path: Path) -> None:
    short = recipe(training={"minutes": 0.01})
    assert draem.train(parts, tmp_path / "run", short, device="cpu").steps >= 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda: recipe(training={"learning_rate": 0.1}), "learning_rate"),
        (lambda: recipe(training={"optimizer": "adamw"}), "optimizer"),
    ],
)
def test_options_without_a_meaning_are_refused(
    parts: Path, tmp_path: Path, change: Callable[[], draem.Recipe], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        draem.train(parts, tmp_path / "run", change(), device="cpu")


def test_several_devices_are_refused(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one device"):
        draem.train(parts, tmp_path / "run", recipe(), device="cpu", devices=2)
