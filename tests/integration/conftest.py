from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from draem.cli import main


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


TINY_RECIPE = """
preset = "compact"
[network]
reconstructive_width = 2
discriminative_width = 2
image_size = [32, 64]
[simulation]
crop = 32
[training]
steps = 12
init = "scratch"
batch_size = 4
precision = "32"
checkpoint_seconds = 0
"""


@pytest.fixture
def draem_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs `draem` in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["draem", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return run


def draem_process(*arguments: object) -> subprocess.Popen[str]:
    command: Sequence[str] = [sys.executable, "-m", "draem", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="session")
def start_draem() -> Callable[..., subprocess.Popen[str]]:
    """Starts `draem` in a process of its own."""
    return draem_process


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE, encoding="utf-8")
    return path


def striped(rng: np.random.Generator) -> np.ndarray:
    stripes = 90 + 40 * np.sin(np.arange(80) / 3)[None, :, None]
    return np.clip(stripes + rng.normal(0, 8, (48, 80, 3)), 0, 255).astype(np.uint8)


def write_category(root: Path) -> Path:
    """Stripes with noise; the defects are bright squares."""
    rng = np.random.default_rng(0)

    def part() -> np.ndarray:
        return striped(rng)

    for folder, count in (("train/good", 10), ("test/good", 4)):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(root / folder / f"{index:03d}.png"), part())
    (root / "test/square").mkdir(parents=True)
    (root / "ground_truth/square").mkdir(parents=True)
    for index in range(4):
        image, mask = part(), np.zeros((48, 80), np.uint8)
        mask[10:30, 20:40] = 255
        image[mask > 0] = 250
        cv2.imwrite(str(root / f"test/square/{index:03d}.png"), image)
        cv2.imwrite(str(root / f"ground_truth/square/{index:03d}_mask.png"), mask)
    return root


@pytest.fixture(scope="session")
def shared_category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny category in MVTec layout; not to be changed."""
    return write_category(tmp_path_factory.mktemp("data") / "striped part")


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """A tiny category in MVTec layout that a test may spoil."""
    return write_category(tmp_path / "striped part")


@pytest.fixture
def more_good(tmp_path: Path) -> Path:
    """A folder of 19 further good parts."""
    folder = tmp_path / "more good"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(19):
        cv2.imwrite(str(folder / f"{index:02d}.png"), striped(rng))
    return folder


@pytest.fixture(scope="session")
def trained_run(shared_category: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, trained by a process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "tiny.toml"
    recipe.write_text(TINY_RECIPE, encoding="utf-8")
    process = draem_process(
        "train", shared_category, "--out", folder / "run", "--recipe", recipe, "--device", "cpu"
    )
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return folder / "run"
