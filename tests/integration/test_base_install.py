"""The base install inspects with an exported model and has no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import draem
from draem.inspection.inspector import Inspector

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def line_computer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the base install alone; the folder of its programs."""
    folder = tmp_path_factory.mktemp("line")
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [programs / "python", "-m", "pip", "install", "--quiet"]
    installed = subprocess.run(
        [*pip, "--disable-pip-version-check", "-c", PROJECT / "constraints.txt", PROJECT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    return programs


def test_the_base_install_inspects_without_torch(
    line_computer: Path,
    write_tiny_model: Callable[..., Any],
    save_image: Callable[..., Path],
    tmp_path: Path,
) -> None:
    write_tiny_model(tmp_path / "model.safetensors", architecture="compact")
    exported = draem.export(tmp_path / "model.safetensors", "onnx").path
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (80, 100, 3), np.uint8) for _ in range(3)]
    for number, image in enumerate(images):
        save_image(tmp_path / "images" / f"{number}.png", image)

    missing = [line_computer / "python", "-c", "import torch"]
    ended = subprocess.run(missing, capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in ended.stderr

    inspected = [exported, tmp_path / "images", "--out", tmp_path / "out", "--threads", "1"]
    ended = subprocess.run(
        [line_computer / "draem", "inspect", *inspected],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{tmp_path / 'out' / 'results.jsonl'}\n"
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    scores = [json.loads(line)["anomaly_score"] for line in lines]
    inspector: Inspector = draem.load(tmp_path / "model.safetensors", device="cpu")
    expected = [inspector.inspect(image).anomaly_score for image in images]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
