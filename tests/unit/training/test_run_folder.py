from __future__ import annotations

from pathlib import Path

import pytest

import draem
from draem.errors import DatasetError, OutputError, RecipeError, RunExistsError
from draem.files import locked
from draem.training.recipe import make_recipe
from draem.training.run_folder import RunFolder, resume_run, start_run

ASKED = make_recipe("compact", overrides={"training": {"steps": 12, "seed": 3}})
RECIPE = ASKED.resolve([(300, 300)])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_run_keeps_its_recipe(tmp_path: Path) -> None:
    run = start_run(str(tmp_path / "deep" / "run"), RECIPE)
    assert run == RunFolder(tmp_path / "deep" / "run")
    assert make_recipe(file=run.recipe).resolve() == RECIPE
    assert names_in(run.root) == ["checkpoints", "pictures", "recipe.toml"]
    assert run.checkpoint.parent.is_dir()


def test_everything_lies_in_the_runs_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    names = {
        str(path.relative_to(tmp_path).as_posix())
        for path in (
            run.model,
            run.recipe,
            run.metrics,
            run.checkpoint,
            run.pictures,
            run.tensorboard,
        )
    }
    assert names == {
        "model.safetensors",
        "recipe.toml",
        "metrics.csv",
        "checkpoints/last.ckpt",
        "pictures",
        "tensorboard",
    }


def test_a_folder_without_a_run_may_hold_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    start_run(tmp_path, RECIPE)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_second_run_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    run = start_run(tmp_path, RECIPE)
    before = run.recipe.read_bytes()
    with pytest.raises(RunExistsError, match=r"an unfinished run already.*--out.*--resume"):
        start_run(tmp_path, make_recipe("full").resolve())
    assert run.recipe.read_bytes() == before
    run.model.write_bytes(b"model")
    with pytest.raises(RunExistsError, match="a finished run already") as raised:
        start_run(tmp_path, RECIPE)
    assert "--resume" not in str(raised.value)
    run.recipe.unlink()
    with pytest.raises(RunExistsError, match="a finished run already"):
        start_run(tmp_path, RECIPE)
    assert run.model.read_bytes() == b"model"


def test_a_file_in_the_runs_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("kept")
    for root in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(OutputError, match="cannot be written"):
            start_run(root, RECIPE)
    assert (tmp_path / "run").read_text() == "kept"


def test_a_run_is_resumed_with_its_own_recipe(tmp_path: Path) -> None:
    run = start_run(tmp_path, RECIPE)
    assert resume_run(tmp_path, None) == (run, RECIPE)
    same = make_recipe("compact", overrides={"training": {"steps": 12, "seed": 3}})
    assert resume_run(str(tmp_path), same) == (run, RECIPE)


def test_a_run_is_not_resumed_with_another_recipe(tmp_path: Path) -> None:
    start_run(tmp_path, RECIPE)
    other = make_recipe(
        "compact",
        overrides={"training": {"epochs": 2, "seed": 3}, "network": {"image_size": (64, 64)}},
    )
    with pytest.raises(RecipeError, match="keeps the recipe") as raised:
        resume_run(tmp_path, other)
    assert raised.value.found == (
        "other values for network.image_size, training.epochs, training.steps"
    )
    with pytest.raises(RecipeError, match="other values for preset"):
        resume_run(tmp_path, make_recipe("full", tmp_path / "recipe.toml"))


def test_asking_for_auto_means_the_size_that_a_run_was_started_with(tmp_path: Path) -> None:
    fixed = make_recipe(
        "compact",
        overrides={
            "training": {"steps": 12, "seed": 3},
            "network": {"image_size": (256, 384), "scales": 2},
        },
    ).resolve()
    run = start_run(tmp_path, fixed)
    assert ASKED.network.image_size == "auto"
    assert resume_run(tmp_path, ASKED) == (run, fixed)
    other = make_recipe("compact", overrides={"training": {"steps": 12, "seed": 4}})
    with pytest.raises(RecipeError, match="keeps the recipe") as raised:
        resume_run(tmp_path, other)
    assert raised.value.found == "other values for training.seed"


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    run = start_run(tmp_path, RECIPE)
    run.model.write_bytes(b"model")
    with pytest.raises(RunExistsError, match="finished already"):
        resume_run(tmp_path, None)


@pytest.mark.parametrize("root", ["missing", ".", "file"])
def test_without_a_run_there_is_nothing_to_resume(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_text("no run")
    with pytest.raises(DatasetError, match="no run to resume"):
        resume_run(tmp_path / root, None)


def test_a_spoiled_recipe_is_named(tmp_path: Path) -> None:
    run = start_run(tmp_path, RECIPE)
    run.recipe.write_text("[training\n")
    with pytest.raises(RecipeError, match="cannot be read") as raised:
        resume_run(tmp_path, None)
    assert raised.value.path == run.recipe


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_process_writes_is_refused(tmp_path: Path, resume: bool) -> None:
    run = start_run(tmp_path / "run", RECIPE)
    before = run.recipe.read_text()
    with locked(run.root), pytest.raises(OutputError, match="another process") as raised:
        draem.train(tmp_path / "data", run.root, resume=resume)
    assert raised.value.path == run.root
    assert run.recipe.read_text() == before
