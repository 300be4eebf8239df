"""Trackers: a real MLflow server, Weights & Biases offline, and TensorBoard's files."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import draem
from draem.errors import DraemWarning, InputError, MissingDependencyError, TrackerError
from draem.imaging.decode import decode_image
from draem.training.run_folder import RunFolder
from draem.training.trackers import Tracking, check_trackers, start_tracking


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running MLflow server."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health") as answer:
            if answer.status == 200:
                break
        assert process.poll() is None, "the MLflow server ended"
        time.sleep(0.2)
    yield address
    # The server's own workers are in its session.
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.wait()


@pytest.fixture(scope="module")
def tracked(
    server: str,
    shared_category: Path,
    trained_run: Path,
    start_draem: Callable[..., subprocess.Popen[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A run that all trackers were told of."""
    run = tmp_path_factory.mktemp("tracked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server)
        patch.setenv("WANDB_MODE", "offline")
        process = start_draem(
            *("train", shared_category, "--out", run, "--recipe", trained_run / "recipe.toml"),
            *("--tracker", "tensorboard", "--tracker", "mlflow", "--tracker", "wandb"),
        )
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        # What trackers print is no result of the command.
        assert out.strip() == str(run / "model.safetensors")
        yield run


def run_of(client: MlflowClient, run: Path) -> Any:
    experiment = client.get_experiment_by_name("draem")
    assert experiment is not None
    named = f"attributes.run_name = '{run.name}'"
    return client.search_runs([experiment.experiment_id], named)[0]


def test_mlflow_has_recipe_figures_pictures_and_model(server: str, tracked: Path) -> None:
    client = MlflowClient(server)
    kept = run_of(client, tracked)
    assert kept.info.status == "FINISHED"
    assert kept.data.params["network.architecture"] == "compact"
    card = draem.load(tracked).card
    assert card.calibration is not None
    assert kept.data.metrics["threshold"] == pytest.approx(card.calibration.threshold)
    assert [each.step for each in client.get_metric_history(kept.info.run_id, "loss")][-1] == 12
    names = {each.path for each in client.list_artifacts(kept.info.run_id)}
    assert names == {"model", "pictures", "recipe.toml"}
    sheets = {Path(each.path).name for each in client.list_artifacts(kept.info.run_id, "pictures")}
    assert sheets == {path.name for path in RunFolder(tracked).pictures.iterdir()}


def test_a_model_from_mlflows_registry_gives_the_same_scores(
    server: str, tracked: Path, shared_category: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    client = MlflowClient(server)
    info = run_of(client, tracked).info
    client.create_registered_model("parts")
    version = client.create_model_version("parts", f"{info.artifact_uri}/model", info.run_id)
    back = draem.load(download_artifacts(f"models:/parts/{version.version}"))
    images = [decode_image(path) for path in sorted((shared_category / "test").rglob("*.png"))]
    ours = draem.load(tracked)
    assert [back.inspect(image).anomaly_score for image in images] == [
        ours.inspect(image).anomaly_score for image in images
    ]


def test_a_resumed_run_goes_on_in_mlflow(
    server: str, tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    run = tmp_path / "stopped"
    run.mkdir()
    shutil.copy(tracked / "recipe.toml", run)
    recipe = draem.make_recipe(file=run / "recipe.toml").resolve()
    for step in (1, 2):
        tracking = start_tracking(["mlflow"], run, recipe)
        tracking.figures({"loss": 1 / step}, step)
        tracking.stopped()
    client = MlflowClient(server)
    kept = run_of(client, run)
    assert kept.info.status == "FAILED"
    history = client.get_metric_history(kept.info.run_id, "loss")
    assert [each.step for each in history] == [1, 2]


def test_wandb_keeps_an_offline_run(tracked: Path) -> None:
    (log,) = tracked.glob("wandb/offline-run-*/*.wandb")
    assert b"val_pixel_ap" in log.read_bytes()
    sheets = list(tracked.glob("wandb/offline-run-*/files/media/images/*.png"))
    assert len(sheets) == len(list(RunFolder(tracked).pictures.iterdir()))


def test_tensorboard_has_figures_and_pictures(tracked: Path) -> None:
    events = EventAccumulator(str(tracked / "tensorboard"))
    events.Reload()
    assert [each.step for each in events.Scalars("val_pixel_ap")][-1] == 12
    assert {"samples", "step"} <= set(events.Tags()["images"])


def test_csv_alone_leaves_no_other_logs(
    trained_run: Path, shared_category: Path, tmp_path: Path
) -> None:
    recipe = draem.make_recipe(file=trained_run / "recipe.toml")
    draem.train(shared_category, tmp_path / "run", recipe, trackers=["csv"])
    assert (tmp_path / "run" / "metrics.csv").is_file()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_server_that_is_away_is_told_before_training(
    trained_run: Path, shared_category: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    recipe = draem.make_recipe(file=trained_run / "recipe.toml")
    with pytest.raises(TrackerError, match=r"mlflow cannot be used.*MLFLOW_TRACKING_URI"):
        draem.train(shared_category, tmp_path / "run", recipe, trackers=["mlflow"])
    assert not (tmp_path / "run" / "metrics.csv").exists()


class Failing:
    """A logger whose server has gone away."""

    told = 0

    def log_metrics(self, *_: object) -> None:
        self.told += 1
        raise ConnectionError("the server has gone")


def test_a_tracker_that_fails_is_given_up_with_a_warning() -> None:
    logger: Any = Failing()
    tracking = Tracking({"mlflow": logger})
    with pytest.warns(DraemWarning, match="mlflow is given up for this run: the server has gone"):
        tracking.figures({"loss": 1.0}, 1)
    tracking.figures({"loss": 1.0}, 2)
    assert logger.told == 1


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(InputError, match=r"no such tracker.*tensorboard.*Found abacus"):
        check_trackers(["abacus"])


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"needs wandb.*'draem\[wandb\]'"):
        check_trackers(["wandb"])
