"""Experiment trackers: where a run's recipe, figures, pictures and model are kept."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import Logger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger

from draem.config import TRACKERS, ResolvedRecipe
from draem.errors import DraemWarning, InputError, TrackerError, missing_dependency, shown
from draem.files import write_text
from draem.imaging.decode import decode_image
from draem.model_card import ModelCard

_PROJECT = "draem"
_RUNS = "trackers.json"
_LONGEST = 200


class Tracking:
    """What a run tells its trackers.

    A tracker that fails during training is given up with a warning, so that it costs no model.

    Args:
        loggers: Lightning's loggers, by the trackers' names.
    """

    def __init__(self, loggers: Mapping[str, Logger] | None = None) -> None:
        self._loggers = dict(loggers or {})

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        """Keep figures of a step."""
        self._each(lambda _, logger: logger.log_metrics(dict(figures), step))

    def picture(self, path: Path, step: int) -> None:
        """Keep a picture sheet, a PNG file."""

        def keep(name: str, logger: Any) -> None:
            if name == "tensorboard":
                pixels = np.asarray(decode_image(path))
                logger.experiment.add_image(_series(path), pixels, step, dataformats="HWC")
            elif name == "mlflow":
                logger.experiment.log_artifact(logger.run_id, str(path), "pictures")
            else:
                image = import_module("wandb").Image(str(path))
                logger.experiment.log({_series(path): image, "trainer/global_step": step})

        self._each(keep)

    def model(self, path: Path, card: ModelCard) -> None:
        """Keep the finished model as an artifact, with its threshold, and close the run."""

        def keep(name: str, logger: Any) -> None:
            if card.calibration is not None:
                found = card.calibration
                threshold = {
                    "threshold": found.threshold,
                    "false_reject_rate": found.false_reject_rate,
                }
                logger.log_metrics(threshold)
            if name == "mlflow":
                logger.experiment.log_artifact(logger.run_id, str(path), "model")
            elif name == "wandb":
                artifact = import_module("wandb").Artifact(f"{_PROJECT}-{logger.version}", "model")
                artifact.add_file(str(path))
                logger.experiment.log_artifact(artifact)
            _close(name, logger, "success")

        self._each(keep)

    def stopped(self) -> None:
        """Close the run as unfinished."""
        self._each(lambda name, logger: _close(name, logger, "failed"))

    def _each(self, keep: Callable[[str, Any], None]) -> None:
        for name, logger in tuple(self._loggers.items()):
            try:
                with _quiet():
                    keep(name, logger)
            except Exception as error:
                del self._loggers[name]
                warnings.warn(
                    f"{name} is given up for this run: {_reason(error)}",
                    DraemWarning,
                    stacklevel=2,
                )


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers are known and installed.

    Raises:
        InputError: A name is unknown.
        MissingDependencyError: The library of a tracker is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError("there is no such tracker", expected=", ".join(TRACKERS), found=name)
        if name in ("mlflow", "wandb"):
            try:
                import_module(name)
            except ImportError as error:
                package = "mlflow-skinny" if name == "mlflow" else name
                raise missing_dependency(error, f"the tracker {name}", name, package) from error


def start_tracking(names: Sequence[str], root: Path, recipe: ResolvedRecipe) -> Tracking:
    """Start a run in each tracker, or go on with the one that an earlier start of this run began.

    MLflow takes its server and experiment from `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME`,
    Weights & Biases its project and mode from `WANDB_PROJECT` and `WANDB_MODE`.

    Args:
        names: Of the trackers.
        root: The run's folder.
        recipe: Kept as the run's parameters, and as a file.

    Raises:
        TrackerError: A tracker cannot be reached.
    """
    path = root / _RUNS
    runs: dict[str, str] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    loggers: dict[str, Logger] = {}
    for name in dict.fromkeys(names):
        if name == "csv":  # metrics.csv is always written
            continue
        try:
            with _quiet():
                logger = _MAKERS[name](root, runs.get(name))
                if name == "tensorboard":
                    text = (root / "recipe.toml").read_text(encoding="utf-8")
                    logger.experiment.add_text("recipe", textwrap.indent(text, "    "))
                elif name not in runs:
                    logger.log_hyperparams(_flat(recipe.model_dump()))
                if name == "mlflow":
                    logger.experiment.log_artifact(logger.run_id, str(root / "recipe.toml"))
                if name != "tensorboard":
                    runs[name] = str(logger.version)
        except Exception as error:
            raise TrackerError(
                f"{name} cannot be used",
                found=_reason(error),
                hint=f"Check {_VARIABLES.get(name, 'the folder')} and go on with --resume, with or "
                "without this tracker",
            ) from error
        loggers[name] = logger
    if runs:
        write_text(path, json.dumps(runs, indent=2) + "\n")
    return Tracking(loggers)


_VARIABLES = {"mlflow": "MLFLOW_TRACKING_URI", "wandb": "WANDB_API_KEY and WANDB_MODE"}


def _tensorboard(root: Path, _: str | None) -> Any:
    return TensorBoardLogger(root, name="tensorboard", version="", default_hp_metric=False)


def _mlflow(root: Path, run: str | None) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger
    from mlflow import get_tracking_uri

    logger = MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
        run_name=root.resolve().name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or get_tracking_uri(),
        run_id=run,
        synchronous=False,
    )
    with _few_tries():
        _ = logger.run_id  # makes the run
    return logger


@contextlib.contextmanager
def _few_tries() -> Iterator[None]:
    """Let MLflow give up soon; by default it tells of a wrong address after four minutes."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    if name in os.environ:
        yield
        return
    os.environ[name] = "2"
    try:
        yield
    finally:
        del os.environ[name]


def _wandb(root: Path, run: str | None) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    wandb: Any = import_module("wandb")
    experiment = wandb.init(
        name=root.resolve().name,
        dir=root,
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        id=run,
        resume="allow",
        settings=wandb.Settings(silent=True),
    )
    return WandbLogger(experiment=experiment)


_MAKERS: dict[str, Callable[[Path, str | None], Any]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _close(name: str, logger: Any, status: str) -> None:
    logger.finalize(status)
    if name == "wandb":
        logger.experiment.finish(exit_code=0 if status == "success" else 1)


def _series(path: Path) -> str:
    """The name under which a tracker shows the sheets of several steps as one series."""
    return path.stem.partition("-")[0]


def _flat(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[before + key] = value if isinstance(value, bool | int | float) else str(value)
    return found


def _reason(error: Exception) -> str:
    text = shown(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what trackers warn their own developers of; what they print is no result of ours."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
