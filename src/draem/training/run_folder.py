"""The folder of a run: its files, and whether a training may begin there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from draem.config import SECTIONS, Recipe, ResolvedRecipe
from draem.errors import DatasetError, RecipeError, RunExistsError
from draem.files import make_folder
from draem.training.recipe import make_recipe, write_recipe


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of a run; `pretrained` leaves no metrics and no checkpoint.

    Attributes:
        root: The run's folder.
    """

    root: Path

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.root / "model.safetensors"

    @property
    def recipe(self) -> Path:
        """The recipe, written when the run is started."""
        return self.root / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """Losses and validation figures as training goes on."""
        return self.root / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """The state to resume from."""
        return self.root / "checkpoints" / "last.ckpt"

    @property
    def pictures(self) -> Path:
        """Folder of picture sheets."""
        return self.root / "pictures"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard logs."""
        return self.root / "tensorboard"


def check_new_run(root: str | Path) -> None:
    """Refuse a folder that holds a run.

    Raises:
        RunExistsError: There is a run in the folder already.
    """
    run = RunFolder(Path(root))
    if run.recipe.exists() or run.model.exists():
        state = "a finished run" if run.model.exists() else "an unfinished run"
        raise RunExistsError(
            f"the folder holds {state} already",
            path=run.root,
            hint="Give another folder with --out"
            + ("" if run.model.exists() else ", or go on with this run with --resume"),
        )


def start_run(root: str | Path, recipe: ResolvedRecipe) -> RunFolder:
    """Make the folder of a new run and write the recipe into it.

    Raises:
        RunExistsError: There is a run in the folder already.
        OutputError: The folder cannot be made.
    """
    check_new_run(root)
    run = RunFolder(Path(root))
    make_folder(run.checkpoint.parent)
    make_folder(run.pictures)
    write_recipe(recipe, run.recipe)
    return run


def resume_run(root: str | Path, asked: Recipe | None) -> tuple[RunFolder, ResolvedRecipe]:
    """Find a run to go on with, and its recipe.

    Args:
        root: The run's folder.
        asked: The recipe that the caller stated, if any; it must be that of the run.

    Raises:
        DatasetError: There is no run in the folder.
        RunExistsError: The run is finished.
        RecipeError: The run was started with another recipe.
    """
    run = RunFolder(Path(root))
    if not run.recipe.is_file():
        raise DatasetError(
            "there is no run to resume",
            path=run.root,
            expected="a folder that an earlier `draem train --out` made, with recipe.toml",
        )
    recipe = make_recipe(file=run.recipe).resolve()
    differences = [] if asked is None else _differences(recipe, asked)
    if differences:
        raise RecipeError(
            "a resumed run keeps the recipe that it was started with",
            path=run.recipe,
            found="other values for " + ", ".join(differences),
            hint="Resume without these options, or start a new run in another folder",
        )
    if run.model.exists():
        raise RunExistsError(
            "the run is finished already", path=run.root, hint="Its model is model.safetensors"
        )
    return run, recipe


def _differences(own: ResolvedRecipe, asked: Recipe) -> list[str]:
    """Keys of the recipe asked for that differ from the run's; `auto` means what the run has."""
    ours, theirs = own.model_dump(), asked.model_dump()
    names = [] if ours["preset"] == theirs["preset"] else ["preset"]
    for section in SECTIONS:
        names += [
            f"{section}.{key}"
            for key in dict.fromkeys((*ours[section], *theirs[section]))
            if theirs[section].get(key) not in ("auto", ours[section].get(key))
        ]
    return names
