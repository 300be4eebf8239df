from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import draem
from draem.imaging.roi import encode_roi

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXAMPLE = EXAMPLES / "plain_onnxruntime.py"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def run_example(model: Path, picture: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLE, model, picture], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("size", "threshold"),
    [((64, 64), 0.0), ((150, 90), 1.0), ((40, 50), 0.0), ((150, 40), 0.0), ((30, 200), 1.0)],
)
def test_plain_onnxruntime_gives_draems_score(
    write_tiny_model: Callable[..., Any],
    save_image: Callable[..., Path],
    tmp_path: Path,
    size: tuple[int, int],
    threshold: float,
) -> None:
    calibration = {"threshold": threshold, "false_reject_rate": 0.1, "images": 9}
    facts = {"architecture": "compact", "interpolation": "area", "calibration": calibration}
    write_tiny_model(tmp_path / "m.safetensors", **facts)
    model = draem.export(tmp_path / "m.safetensors").path
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    picture = save_image(tmp_path / "a.png", pixels)

    ended = run_example(model, picture)

    found = draem.load(model).inspect(pixels)
    expected = f"score {found.anomaly_score:.4f}"
    assert ended.stdout.startswith(expected), ended.stderr
    assert ended.stdout.endswith("anomalous\n" if threshold == 0 else "normal\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tile", 64),
        ("region_of_interest", encode_roi(np.eye(64, dtype=bool))),
    ],
)
def test_plain_onnxruntime_refuses_what_draem_does_outside_the_file(
    write_tiny_model: Callable[..., Any],
    save_image: Callable[..., Path],
    tmp_path: Path,
    name: str,
    value: object,
) -> None:
    write_tiny_model(tmp_path / "m.safetensors", architecture="compact", **{name: value})
    model = draem.export(tmp_path / "m.safetensors").path
    picture = save_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    ended = run_example(model, picture)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"this model has a {name}" in ended.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    assert any("image/png" in str(cell.get("outputs")) for cell in notebook.cells) or (
        path.stem != "first_model"
    )
