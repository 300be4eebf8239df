from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.checkpoint import checkpoint

import draem
from draem.errors import RecipeError, RunExistsError, TrainingError
from draem.imaging.decode import decode_image
from draem.model_file import read_card, read_model
from draem.simulation.simulator import Simulator
from draem.simulation.textures import builtin_textures
from draem.training import fit
from draem.training import parts as parts_of_run
from draem.training.images import train_held_out_split
from draem.training.loop import LoopState, TrainingParts, train_loop
from draem.training.recipe import make_recipe
from draem.training.validation import Validation
from draem.training.warm_start import WARM_START

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
    assert card.network.image_size == (32, 64)
    assert card.network.architecture == "compact"
    assert card.training_set is not None
    assert card.training_set.images == 9
    assert card.calibration is not None
    assert card.calibration.images == 1
    assert card.calibration.false_reject_rate == 0.5
    assert card.recipe.training.steps == 12
    assert card.versions["torch"] == torch.__version__
    assert "val_pixel_ap" in card.figures


def test_the_loss_falls(trained_run: Path) -> None:
    losses = [float(row["loss"]) for row in rows(trained_run)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_and_resumed_run_ends_where_an_undisturbed_one_does(
    how: signal.Signals,
    shared_category: Path,
    tiny_recipe: Path,
    trained_run: Path,
    tmp_path: Path,
    start_draem: Start,
) -> None:
    for attempt in range(4):  # on a busy machine a run can end before the signal reaches it
        run = tmp_path / f"run-{attempt}"
        options = ("train", shared_category, "--out", run, "--device", "cpu")
        process = start_draem(*options, "--recipe", tiny_recipe)
        wait_for_step(run, process)
        os.kill(process.pid, how)
        _, errors = process.communicate(timeout=60)
        if not (run / "model.safetensors").exists():
            break
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


def test_every_choice_of_optimiser_and_loss_reaches_the_training(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    prints = set()
    choices: list[dict[str, object]] = [
        {},
        {"optimizer": "adam"},
        {"weight_decay": 1.0},
        {"ssim_of": "channels"},
        {"focal_gamma": 3.0},
    ]
    for number, choice in enumerate(choices):
        options = {"steps": 2, "schedule": "constant", "average_decay": 0.0, **choice}
        recipe = make_recipe(file=tiny_recipe, overrides={"training": options})
        result = draem.train(shared_category, tmp_path / str(number), recipe, device="cpu")
        prints.add(result.card.fingerprint)
    assert len(prints) == len(choices)


def test_activation_checkpointing_leaves_the_weights_as_they_are(
    shared_category: Path, trained_run: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    sections = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal sections
        sections += 1
        return checkpoint(*arguments, **options)

    monkeypatch.setattr("draem.networks.checkpointing.checkpoint", counted)
    recipe = make_recipe(
        file=tiny_recipe, overrides={"training": {"activation_checkpointing": True}}
    )
    draem.train(shared_category, tmp_path / "run", recipe, device="cpu")

    assert weights_equal(trained_run, tmp_path / "run")
    # Twelve steps through encoder and decoder, then five stages and four merges.
    assert sections == 12 * (2 + 5 + 4)


def test_a_warm_run_starts_from_the_weights_that_come_with_draem(
    shared_category: Path, tmp_path: Path
) -> None:
    # A learning rate of almost nothing leaves the weights where the run started.
    options = {"steps": 2, "batch_size": 2, "learning_rate": 1e-12, "schedule": "constant"}
    network, simulation = {"image_size": (32, 64)}, {"crop": 32}
    states = {}
    for init in ("warm", "scratch"):
        overrides = {
            "network": network,
            "simulation": simulation,
            "training": {**options, "init": init, "seed": 1, "average_decay": 0.0},
        }
        recipe = make_recipe("compact", overrides=overrides)
        result = draem.train(shared_category, tmp_path / init, recipe, device="cpu")
        assert result.card.recipe.training.init == init
        states[init] = read_model(result.model)[1]

    _, start = read_model(WARM_START)
    learned = [name for name, value in start.items() if name.endswith(("weight", "bias"))]
    for name in learned:
        assert states["warm"][name].dtype == torch.float32
        torch.testing.assert_close(states["warm"][name], start[name].float(), atol=1e-9, rtol=1e-6)
        if start[name].ndim == 4:
            assert (states["scratch"][name] - start[name].float()).abs().max() > 1e-3
    # The batch statistics go on from the warm start's as well.
    counts = [name for name in start if name.endswith("num_batches_tracked")]
    assert {int(states["warm"][name] - start[name]) for name in counts} == {2}
    assert {int(states["scratch"][name]) for name in counts} == {2}


def test_a_warm_run_learns_and_ends_elsewhere_than_one_from_scratch(
    shared_category: Path, tmp_path: Path
) -> None:
    figures = {}
    for init in ("warm", "scratch"):
        overrides = {
            "network": {"image_size": (32, 64)},
            "simulation": {"crop": 32},
            "training": {"steps": 12, "batch_size": 4, "init": init},
        }
        recipe = make_recipe("compact", overrides=overrides)
        result = draem.train(shared_category, tmp_path / init, recipe, device="cpu")
        losses = [float(row["loss"]) for row in rows(tmp_path / init)]
        assert all(np.isfinite(losses))
        figures[init] = result.card.figures
        _, state = read_model(result.model)
        name = "reconstructive.head.weight"
        if init == "warm":
            start = read_model(WARM_START)[1][name].float()
            assert (state[name] - start).abs().max() > 1e-4

    assert figures["warm"].keys() == figures["scratch"].keys()
    assert figures["warm"] != figures["scratch"]


def test_an_automatic_image_size_is_stored_as_numbers_and_need_not_be_stated_again(
    category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = {"network": {"image_size": "auto"}, "training": {"steps": 2}}
    auto = make_recipe(file=tiny_recipe, overrides=options)
    first = draem.train(category, run, auto, device="cpu")
    # 48x80 images: 256 times 80 / 48 is 427, and 416 the nearest multiple of 32.
    assert first.card.network.image_size == (256, 416)
    assert first.card.recipe.network.image_size == (256, 416)
    assert make_recipe(file=run / "recipe.toml").network.image_size == (256, 416)

    for asked in (None, auto):
        (run / "model.safetensors").unlink()
        again = draem.train(category, run, asked, resume=True, device="cpu")
        assert again.card.fingerprint == first.card.fingerprint
        assert again.card.network.image_size == (256, 416)
    (run / "model.safetensors").unlink()
    other = make_recipe(file=tiny_recipe, overrides={"training": {"steps": 2}})
    with pytest.raises(RecipeError, match=r"network\.image_size"):
        draem.train(category, run, other, resume=True, device="cpu")


def test_a_run_keeps_its_size_when_the_images_do_not(
    category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = {"network": {"image_size": "auto"}, "training": {"steps": 2}}
    draem.train(category, run, make_recipe(file=tiny_recipe, overrides=options), device="cpu")
    (run / "model.safetensors").unlink()
    for path in (category / "train" / "good").iterdir():
        Image.open(path).resize((60, 60)).save(path)
    with pytest.raises(TrainingError, match="images or textures have changed"):
        draem.train(category, run, resume=True, device="cpu")
    assert make_recipe(file=run / "recipe.toml").network.image_size == (256, 416)


def test_a_network_that_the_warm_start_does_not_fit_is_refused(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    warm = {"training": {"init": "warm"}}
    for recipe in (
        make_recipe(file=tiny_recipe, overrides=warm),
        make_recipe("full", overrides=warm),
    ):
        with pytest.raises(RecipeError, match=r"warm start does not fit.*--init scratch"):
            draem.train(shared_category, tmp_path / "run", recipe, device="cpu")
    assert not (tmp_path / "run").exists()


def test_training_leaves_the_process_as_it_was(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draem.train(shared_category, tmp_path / "run", make_recipe(file=tiny_recipe), device="cpu")
    assert [signal.getsignal(number) for number in numbers] == handlers
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


@pytest.mark.parametrize("held_out_share", [0.1, 0.0])
@pytest.mark.parametrize("own_textures", [True, False])
def test_validation_has_textures_that_training_never_sees(
    shared_category: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_textures: bool,
    held_out_share: float,
) -> None:
    seen: dict[str, Simulator] = {}

    def validation(simulator: Simulator, *others: Any) -> Validation:
        seen["validation"] = simulator
        return Validation(simulator, *others)

    def loop(parts: TrainingParts, *others: Any) -> LoopState:
        seen["training"] = parts.simulator
        return train_loop(parts, *others)

    monkeypatch.setattr(parts_of_run, "Validation", validation)
    monkeypatch.setattr(fit, "train_loop", loop)
    # A single texture is enough: validation takes none of them away.
    textures = tmp_path / "textures"
    textures.mkdir()
    shutil.copy(next((shared_category / "test" / "good").iterdir()), textures)
    asked = {
        "simulation": {"textures": str(textures) if own_textures else None},
        "training": {"steps": 1, "held_out_share": held_out_share},
    }
    recipe = make_recipe(file=tiny_recipe, overrides=asked)

    draem.train(shared_category, tmp_path / "run", recipe, device="cpu")

    ours, theirs = (seen[name].textures.stored for name in ("training", "validation"))
    assert ours is not None
    assert theirs is not None
    assert len(ours) == (1 if own_textures else len(builtin_textures((32, 32))))
    assert ours.shape[1:] == theirs.shape[1:] == (3, 32, 32)
    pictures = {bytes(texture.numpy().tobytes()) for texture in ours}
    assert not pictures & {bytes(texture.numpy().tobytes()) for texture in theirs}
    images = [len(seen[name].normal_images) for name in ("training", "validation")]
    assert images == ([9, 1] if held_out_share else [10, 10])


def test_the_published_preset_trains_on_every_image_and_finds_no_threshold(
    shared_category: Path, tmp_path: Path
) -> None:
    small = {
        "network": {"reconstructive_width": 2, "discriminative_width": 2, "image_size": (32, 32)},
        "training": {"steps": 2},
    }
    run = tmp_path / "run"
    recipe = make_recipe("published", overrides=small)

    card = draem.train(shared_category, run, recipe, device="cpu").card

    assert card.calibration is None
    assert card.training_set is not None
    assert card.training_set.images == 10
    assert card.recipe == recipe.resolve()
    # Without a moving average the model is the network in training.
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    weights = read_model(run / "model.safetensors")[1]
    assert all(torch.equal(saved["network"][name], value) for name, value in weights.items())


@pytest.mark.parametrize("profile", ["varied", "upstream"])
def test_a_region_of_interest_limits_training_scores_and_threshold(
    category: Path, tiny_recipe: Path, tmp_path: Path, profile: str
) -> None:
    left = [[(0, 0), (0.5, 0), (0.5, 1), (0, 1)]]
    text = tiny_recipe.read_text(encoding="utf-8")
    tiny_recipe.write_text(text.replace("crop = 32", ""), encoding="utf-8")
    asked = {"simulation": {"profile": profile}, "region_of_interest": {"polygons": left}}
    recipe = make_recipe(file=tiny_recipe, overrides=asked)
    run = tmp_path / "run"
    card = draem.train(category, run, recipe, device="cpu").card
    inspector = draem.load(run, device="cpu")
    inside = inspector.region_of_interest
    assert inside is not None
    assert inside[:, :32].all()
    assert not inside[:, 32:].any()
    # The threshold is just above the highest score of the one held-out image.
    paths = sorted((category / "train" / "good").iterdir())
    (held_out,), _ = train_held_out_split(np.arange(len(paths)), 0.1, 0)
    found = inspector.inspect(decode_image(paths[held_out]))
    assert card.calibration is not None
    assert found.anomaly_score == pytest.approx(card.calibration.threshold, rel=1e-3)
    assert found.anomaly_score < card.calibration.threshold
    assert (found.anomaly_map[:, 40:] == 0).all()
    assert card.recipe.region_of_interest.polygons == (tuple(left[0]),)

    (run / "model.safetensors").unlink()
    other = make_recipe(file=tiny_recipe, overrides={"simulation": {"profile": profile}})
    with pytest.raises(RecipeError, match=r"region_of_interest\.polygons"):
        draem.train(category, run, other, resume=True, device="cpu")
    again = draem.train(category, run, recipe, resume=True, device="cpu")
    assert again.card.fingerprint == card.fingerprint


def test_a_changed_mask_is_noticed(category: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    mask = np.zeros((48, 80), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    asked = {"region_of_interest": {"mask": str(tmp_path / "mask.png")}}
    recipe = make_recipe(file=tiny_recipe, overrides=asked)
    draem.train(category, tmp_path / "run", recipe, device="cpu")
    (tmp_path / "run" / "model.safetensors").unlink()
    Image.fromarray(255 - mask).save(tmp_path / "mask.png")
    with pytest.raises(TrainingError, match=r"region of interest.*changed"):
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
    shared_category: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(file=tiny_recipe, overrides={"training": {"schedule": "constant"}})
    # Recipes allow no rate that diverges at once.
    monkeypatch.setattr("draem.training.loop.learning_rate_factor", lambda *_: 1e30)
    with pytest.raises(TrainingError, match="lower learning rate"):
        draem.train(shared_category, tmp_path / "run", recipe, device="cpu")


def test_a_recipe_of_the_wrong_kind_is_refused(shared_category: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="make_recipe"):
        draem.train(shared_category, tmp_path / "run", "compact")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
