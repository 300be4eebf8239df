"""What every runtime gives an Inspector, and what exported models call their inputs and outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError, ModelFileError

IMAGES = "images"
ANOMALY_MAP = "anomaly_map"
ANOMALY_SCORE = "anomaly_score"
RECONSTRUCTION = "reconstruction"


class RuntimeOutput(NamedTuple):
    """What a model says of a batch.

    Attributes:
        anomaly_maps: (batch, height, width) float32 in [0, 1].
        anomaly_scores: (batch,) float32 in [0, 1].
        reconstructions: (batch, height, width, 3) uint8 RGB; None if the model was exported
            without them.
    """

    anomaly_maps: NDArray[np.float32]
    anomaly_scores: NDArray[np.float32]
    reconstructions: NDArray[np.uint8] | None

    def reconstruction(self, row: int) -> NDArray[np.uint8] | None:
        """That of one image, (height, width, 3), if there are any."""
        return None if self.reconstructions is None else self.reconstructions[row]


class Runtime(Protocol):
    """Runs a model on images of the network's size."""

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch.

        Args:
            images: (batch, height, width, 3) uint8 RGB at the model's input size.
        """
        ...


def run_finite(runtime: Runtime, images: NDArray[np.uint8]) -> RuntimeOutput:
    """Run a batch.

    Raises:
        InputError: The model gives scores that are not finite, which no threshold would catch.
    """
    output = runtime.run(images)
    if not np.isfinite(output.anomaly_scores).all():
        raise InputError(
            "the model gives a score that is not finite",
            hint="Check that its weights are finite; train it again if they are not",
        )
    return output


def named_output(found: Mapping[str, NDArray[Any]]) -> RuntimeOutput:
    """The outputs of an exported model, given by their names."""
    return RuntimeOutput(found[ANOMALY_MAP], found[ANOMALY_SCORE], found.get(RECONSTRUCTION))


def bounded_threads(threads: int | None) -> int:
    """As many threads as were asked for, but at most one per core; None for one per core.

    More wait for each other, and stall ONNX Runtime.
    """
    cores = os.cpu_count() or 1
    return min(threads or cores, cores)


def check_exported(path: Path, device: str, outputs: list[str]) -> None:
    """Refuse what an exported model cannot do.

    Args:
        path: The model file.
        device: Where it is asked to run.
        outputs: Names of its outputs.

    Raises:
        InputError: The device is not the CPU.
        ModelFileError: An output is missing.
    """
    if device not in ("auto", "cpu"):
        raise InputError(
            f"this model cannot run on the device `{device}`",
            path=path,
            expected="`cpu`: exported models run there",
            hint="Load the .safetensors model to run on a GPU",
        )
    if missing := {ANOMALY_MAP, ANOMALY_SCORE} - set(outputs):
        raise ModelFileError(
            "this model has not the outputs of a draem model",
            path=path,
            expected=", ".join(sorted(missing)),
            found=", ".join(outputs) or "none",
            hint="Export it again with `draem export`",
        )


def damaged(path: Path, kind: str) -> ModelFileError:
    """The error of a file that its runtime cannot load."""
    return ModelFileError(
        f"{kind} cannot load this model",
        path=path,
        expected=f"a {path.suffix} file written by `draem export`",
        hint="Copy the file again, or export the model again",
    )
