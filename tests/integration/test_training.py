from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import draem
from draem.errors import RecipeError, RunExistsError, TrainingError
from draem.modelfile import read_card, read_model
from draem.training.recipe import make_recipe

Start = Callable[..., "subprocess.Popen[str]"]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights_equal(first: Path, second: Path) -> bool:
    ours, theirs = (read_model(run / "model.safetensors")[1] for run in (first, second))
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in ours.items()
    )


def wait_for_step(run: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the run has a checkpoint with some steps behind it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        started = (run / "checkpoints" / "last.ckpt").exists() and (run / "metrics.csv").exists()
        if started and int(rows(run)[-1]["step"]) >= 2:
            return
        time.sleep(0.01)
    pytest.fail(f"the run made no step: {process.communicate(timeout=5)}")


def test_a_run_leaves_everything_the_guide_names(trained_run: Path) -> None:
    assert (trained_run / "model.safetensors").is_file()
    assert (trained_run / "recipe.toml").is_file()
    assert (trained_run / "checkpoints" / "last.ckpt").is_file()
    assert list((trained_run / "tensorboard").glob("events.*"))
    assert (trained_run / "pictures" / "samples.png").is_file()
    assert (trained_run / "pictures" / "step-0000012.png").is_file()
    last = rows(trained_run)[-1]
    assert last["step"] == "12"
    assert 0 <= float(last["val_pixel_auroc"]) <= 1
    # Nothing half-written stays behind.
    assert not [path for path in trained_run.rglob(".*") if path.is_file()]


def test_the_model_knows_how_it_was_made(trained_run: Path) -> None:
    card = read_card(trained_run / "model.safetensors")
    assert card.image_size == (32, 64)
    assert card.training_set is not None
    assert card.training_set.images == 9
    assert card.calibration is not None
    assert card.calibration.images == 1
    assert card.calibration.false_reject_rate == 0.5
    assert card.recipe["training"]["steps"] == 12
    assert card.versions["torch"] == torch.__version__
    assert "val_pixel_ap" in card.figures


def test_the_loss_falls(trained_run: Path) -> None:
    losses = [float(row["loss"]) for row in rows(trained_run)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_and_resumed_run_ends_where_an_undisturbed_one_does(
    how: signal.Signals,
    shared_category: Path,
    tiny_recipe: Path,
    trained_run: Path,
    tmp_path: Path,
    start_draem: Start,
) -> None:
    run = tmp_path / "run"
    options = ("train", shared_category, "--out", run, "--device", "cpu")
    process = start_draem(*options, "--recipe", tiny_recipe)
    wait_for_step(run, process)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    assert not (run / "model.safetensors").exists()
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert "--resume" in errors
        assert "Traceback" not in errors

    resumed = start_draem(*options, "--resume")
    _, errors = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, errors
    assert weights_equal(run, trained_run)
    steps = [int(row["step"]) for row in rows(run)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 12


def test_two_processes_share_a_batch(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path, start_draem: Start
) -> None:
    run = tmp_path / "run"
    process = start_draem(
        *("train", shared_category, "--out", run, "--recipe", tiny_recipe),
        *("--device", "cpu", "--devices", 2),
    )
    out, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors
    assert out.count("model.safetensors") == 1
    steps = [int(row["step"]) for row in rows(run)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 12
    model = draem.load(run)
    found = model.inspect(np.zeros((48, 80, 3), np.uint8))
    assert 0 <= found.anomaly_score <= 1


def test_the_same_seed_gives_the_same_model(
    shared_category: Path, trained_run: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    result = draem.train(
        shared_category, tmp_path / "again", make_recipe(file=tiny_recipe), device="cpu"
    )
    assert result.steps == 12
    assert result.card.fingerprint == read_card(trained_run / "model.safetensors").fingerprint

    other = make_recipe(file=tiny_recipe, overrides={"training": {"seed": 1}})
    result = draem.train(shared_category, tmp_path / "other", other, device="cpu")
    assert result.card.fingerprint != read_card(trained_run / "model.safetensors").fingerprint


def test_training_leaves_the_process_as_it_was(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draem.train(shared_category, tmp_path / "run", make_recipe(file=tiny_recipe), device="cpu")
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_run_is_never_overwritten(
    shared_category: Path, trained_run: Path, tiny_recipe: Path
) -> None:
    recipe = make_recipe(file=tiny_recipe)
    with pytest.raises(RunExistsError, match="another folder"):
        draem.train(shared_category, trained_run, recipe, device="cpu")
    with pytest.raises(RunExistsError, match="finished"):
        draem.train(shared_category, trained_run, resume=True, device="cpu")


def test_a_resumed_run_keeps_recipe_and_images(
    category: Path, tiny_recipe: Path, tmp_path: Path, start_draem: Start
) -> None:
    run = tmp_path / "run"
    recipe = make_recipe(file=tiny_recipe)
    first = draem.train(category, run, recipe, device="cpu")
    (run / "model.safetensors").unlink()
    other = make_recipe(file=tiny_recipe, overrides={"training": {"batch_size": 2}})
    with pytest.raises(RecipeError, match=r"training\.batch_size"):
        draem.train(category, run, other, resume=True, device="cpu")
    # A run whose last step is done, but whose model is missing, makes no further step.
    finished = draem.train(category, run, recipe, resume=True, device="cpu")
    assert finished.card.fingerprint == first.card.fingerprint
    (run / "model.safetensors").unlink()
    for path in sorted((category / "train" / "good").iterdir())[:3]:
        path.unlink()
    with pytest.raises(TrainingError, match="images"):
        draem.train(category, run, recipe, resume=True, device="cpu")


def test_a_run_goes_on_after_a_half_written_metrics_file(
    category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    recipe = make_recipe(file=tiny_recipe)
    draem.train(category, run, recipe, device="cpu")
    (run / "model.safetensors").unlink()
    text = (run / "metrics.csv").read_text(encoding="utf-8")
    (run / "metrics.csv").write_text(text[: text.rindex(",0.")], encoding="utf-8")
    draem.train(category, run, recipe, resume=True, device="cpu")
    assert (run / "model.safetensors").is_file()

    (run / "model.safetensors").unlink()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half a checkpoint")
    with pytest.raises(TrainingError, match=r"last\.ckpt: the checkpoint is damaged"):
        draem.train(category, run, recipe, resume=True, device="cpu")


def test_changed_textures_are_noticed(
    category: Path, shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    textures = tmp_path / "textures"
    shutil.copytree(shared_category / "test" / "good", textures)
    recipe = make_recipe(file=tiny_recipe, overrides={"simulation": {"textures": str(textures)}})
    draem.train(category, tmp_path / "run", recipe, device="cpu")
    (tmp_path / "run" / "model.safetensors").unlink()
    next(textures.iterdir()).unlink()
    with pytest.raises(TrainingError, match="textures have changed"):
        draem.train(category, tmp_path / "run", recipe, resume=True, device="cpu")


def test_a_run_measured_in_minutes_ends_by_the_clock(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(file=tiny_recipe, overrides={"training": {"minutes": 0.02}})
    result = draem.train(shared_category, tmp_path / "run", recipe, device="cpu")
    assert result.steps >= 1
    assert 1.2 <= result.seconds < 20


def test_without_held_out_images_there_is_no_threshold(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    options = {"held_out_share": 0.0, "steps": 2, "average_decay": 0.0}
    recipe = make_recipe(file=tiny_recipe, overrides={"training": options})
    result = draem.train(shared_category, tmp_path / "run", recipe, device="cpu")
    assert result.card.calibration is None
    assert result.card.training_set is not None
    assert result.card.training_set.images == 10


def test_a_loss_that_is_no_number_ends_the_run(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(
        file=tiny_recipe,
        overrides={"training": {"learning_rate": 1e30, "schedule": "constant"}},
    )
    with pytest.raises(TrainingError, match="lower learning rate"):
        draem.train(shared_category, tmp_path / "run", recipe, device="cpu")


def test_a_recipe_of_the_wrong_kind_is_refused(shared_category: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="make_recipe"):
        draem.train(shared_category, tmp_path / "run", "compact")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
