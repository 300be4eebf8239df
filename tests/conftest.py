"""What every test may use; `tests.reference` becomes importable too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from draem.inspection.inspector import Inspector
from draem.inspection.runtime import RuntimeOutput
from draem.model_card import Calibration, ModelCard
from draem.model_file import write_model
from tests.support import model_card, score_of, small_draem

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Several threads slow networks this small down, a hundredfold where other work fills the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = 64


class RedRuntime:
    """A known detector: the anomaly map is the red channel."""

    def __init__(self, score_shift: float = 0.0) -> None:
        self._shift = np.float32(score_shift)

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        maps = images[..., 0].astype(np.float32) / 255
        scores = np.array([score_of(plane) for plane in maps], np.float32) + self._shift
        return RuntimeOutput(maps, scores, 255 - images)


@pytest.fixture
def red_inspector() -> Callable[..., Inspector]:
    """Makes an Inspector whose anomaly map is the red channel of the image."""

    def make(
        threshold: float | None = 0.5,
        image_size: tuple[int, int] = (TINY, TINY),
        *,
        score_shift: float = 0.0,
    ) -> Inspector:
        calibration = (
            None
            if threshold is None
            else Calibration(threshold=threshold, false_reject_rate=0.05, images=19)
        )
        card = model_card(image_size=image_size, calibration=calibration)
        return Inspector(card, RedRuntime(score_shift))

    return make


@pytest.fixture(scope="session", autouse=True)
def _hang_ups_end_processes() -> None:
    """`nohup` leaves the signal ignored, and so would the processes that tests start."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def write_tiny_model() -> Callable[..., ModelCard]:
    """Writes a model of width 4 at 64x64 with random weights and batch statistics."""
    import torch

    def write(
        path: Path,
        *,
        seed: int = 0,
        architecture: str = "published",
        network: str | None = None,
        **facts: object,
    ) -> ModelCard:
        """`network` may differ from the `architecture` that the card tells."""
        built = small_draem(4, 4, network or architecture, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for part in built.modules():
                # Variances near what random weights of this size keep: signals neither fade nor
                # grow, so that maps are not flat and rounding errors stay small.
                if isinstance(part, torch.nn.Conv2d):
                    part.weight.normal_(0, (2 / part.weight[0].numel()) ** 0.5, generator=generator)
                elif isinstance(part, torch.nn.BatchNorm2d):
                    part.running_mean.normal_(0, 0.1, generator=generator)
                    part.running_var.uniform_(0.5, 1.5, generator=generator)
            built.reconstructive.head.bias.fill_(0.5)
        options = {"architecture": architecture, "image_size": (TINY, TINY)}
        calibration = Calibration(threshold=0.5, false_reject_rate=0.05, images=19)
        card = model_card(**{**options, "calibration": calibration, **facts})
        return write_model(path, built.state_dict(), card)

    return write


@pytest.fixture(scope="session")
def tiny_model(
    write_tiny_model: Callable[..., ModelCard], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A model file with random weights; whoever changes it fails the run."""
    path = tmp_path_factory.mktemp("tiny") / "model.safetensors"
    write_tiny_model(path)
    written = path.read_bytes()
    yield path
    assert path.read_bytes() == written, "a test changed the model that all share; change a copy"


@pytest.fixture(scope="session")
def save_image() -> Callable[[Path, NDArray[np.uint8]], Path]:
    """Writes a PNG file, with its folders."""

    def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "png")
        return path

    return save


@pytest.fixture
def tiny_category(save_image: Callable[[Path, NDArray[np.uint8]], Path], tmp_path: Path) -> Path:
    """A category in MVTec layout, 64x64: red is dark but in the marked squares, where it is full.

    4 good images to train on; to test, 3 good ones, 2 with a `scratch` and 1 with a `stain`.
    """
    rng = np.random.default_rng(0)
    root = tmp_path / "tiny part"
    for folder, count in (("train/good", 4), ("test/good", 3), ("test/scratch", 2)):
        for index in range(count):
            pixels = rng.integers(0, 40, (TINY, TINY, 3), np.uint8)
            save_image(root / folder / f"{index:03d}.png", pixels)
    save_image(root / "test/stain/000.png", rng.integers(0, 40, (TINY, TINY, 3), np.uint8))
    for path in sorted([*root.glob("test/scratch/*"), *root.glob("test/stain/*")]):
        mask = np.zeros((TINY, TINY), np.uint8)
        mask[10:30, 20:40] = 255
        pixels = np.array(Image.open(path))
        pixels[mask > 0, 0] = 255
        save_image(path, pixels)
        save_image(root / "ground_truth" / path.parent.name / f"{path.stem}_mask.png", mask)
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Gives torch one thread to begin with, and afterwards as many as it had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a process of its own and returns how it ended."""

    def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
