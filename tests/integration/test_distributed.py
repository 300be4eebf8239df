"""Inspection on a local Ray cluster finds what one process finds."""

from __future__ import annotations

import collections
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import draem
from draem.errors import InputError, ModelFileError, OutputError
from tests.integration.conftest import Outcome

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(write_tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder / "model.safetensors", architecture="compact")
    return draem.export(folder / "model.safetensors", "onnx").path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(0, 256, (70 + number, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG no more")
    return folder


def expected(model: Path, folder: Path, out: Path) -> dict[str, dict[str, Any]]:
    import json

    draem.inspect_files(draem.load(model, threads=1), folder, out, maps=False, overlays=False)
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["image"]: line for line in map(json.loads, lines)}


def compare(rows: list[dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> None:
    assert collections.Counter(row["image"] for row in rows) == dict.fromkeys(wanted, 1)
    for row in rows:
        line = wanted[row["image"]]
        assert row["error"] == line.get("error")
        for name in ("anomaly_score", "threshold", "is_anomalous", "decision", "regions"):
            assert row[name] == line[name], name


@pytest.mark.usefixtures("cluster")
def test_a_cluster_finds_what_one_process_finds(
    model: Path, photographs: Path, tmp_path: Path
) -> None:
    from draem.distributed import image_files, inspect

    wanted = expected(model, photographs, tmp_path / "here")
    assert wanted[str(photographs / "broken.png")]["error"]
    rows = inspect(image_files(str(photographs)), model, workers=1).take_all()
    compare(rows, wanted)
    paths = [{"path": str(path)} for path in sorted(photographs.iterdir())]
    named = inspect(ray.data.from_items(paths), model, workers=1, maps=True).take_all()
    compare(named, wanted)
    shapes = {Path(row["image"]).stem: row["map"] for row in named}
    assert shapes["broken"] is None
    assert shapes["03"].startswith(b"\x89PNG")


@pytest.mark.usefixtures("cluster")
def test_the_command_writes_parquet(
    draem_cli: Callable[..., Outcome], model: Path, photographs: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    arguments = ("inspect", model, photographs, "--out", tmp_path / "out", "--ray", "auto")
    outcome = draem_cli(*arguments)
    assert outcome.status == 1, outcome.err
    assert "21 images" in outcome.err
    assert "1 could not be read" in outcome.err
    rows = parquet.read_table(tmp_path / "out" / "results").to_pylist()
    compare(rows, expected(model, photographs, tmp_path / "here"))
    again = draem_cli(*arguments)
    assert again.status == 2
    assert "is there already" in again.err
    assert draem_cli(*arguments, "--coco").status == 2


@pytest.mark.usefixtures("cluster")
def test_wrong_input_is_refused_before_any_work(
    model: Path, photographs: Path, tmp_path: Path
) -> None:
    from draem.distributed import inspect, inspect_to_parquet

    images = ray.data.from_items([{"path": "a.png"}])
    with pytest.raises(InputError, match="must be positive"):
        inspect(images, model, threads=0)
    with pytest.raises(InputError, match="has no images"):
        inspect(ray.data.from_items([{"picture": "a.png"}]), model)
    with pytest.raises(ModelFileError):
        inspect(images, tmp_path / "none.onnx")
    with pytest.raises(InputError, match="mixed"):
        inspect_to_parquet(["a.png", "s3://parts/b.png"], model, tmp_path / "out")
    (tmp_path / "results").mkdir()
    with pytest.raises(OutputError, match="is there already"):
        inspect_to_parquet([photographs / "00.png"], model, tmp_path)


@pytest.mark.slow
def test_each_image_has_one_row_although_a_worker_and_a_node_die(
    model: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet
    from ray.cluster_utils import Cluster

    from draem.distributed import inspect

    ray.shutdown()
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(400):
        pixels = rng.integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    wanted = expected(model, folder, tmp_path / "here")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        paths = [{"path": str(path)} for path in sorted(folder.iterdir())]
        images = ray.data.from_items(paths, override_num_blocks=40)

        def disturbed(batch: Any) -> Any:
            time.sleep(0.1)
            return batch

        started = inspect(images.map_batches(disturbed, batch_size=10), model, workers=2)
        killed = _kill_soon(lambda: cluster.remove_node(node, allow_graceful=False))
        started.write_parquet(str(tmp_path / "results"))
        assert killed == ["worker", "node"]
    finally:
        ray.shutdown()
        cluster.shutdown()
    compare(parquet.read_table(tmp_path / "results").to_pylist(), wanted)


def _kill_soon(remove_node: Callable[[], None]) -> list[str]:
    """Kill a worker soon after it has started, then a node; the list tells what was killed."""
    killed: list[str] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            workers = [pid for pid in _pids() if "MapWorker" in _name(pid)]
            if workers:
                time.sleep(2)
                os.kill(workers[0], signal.SIGKILL)
                killed.append("worker")
                break
            time.sleep(0.1)
        time.sleep(2)
        remove_node()
        killed.append("node")

    threading.Thread(target=kill, daemon=True).start()
    return killed


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
