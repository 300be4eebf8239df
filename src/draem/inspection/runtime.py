"""What every runtime gives an Inspector, and what exported models call their inputs and outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from draem.errors import DraemError, InputError, ModelFileError, shortened
from draem.model_card import HIGHEST_SCORE, LOWEST_SCORE

IMAGES = "images"
ANOMALY_MAP = "anomaly_map"
ANOMALY_SCORE = "anomaly_score"
RECONSTRUCTION = "reconstruction"
_OTHERS_HINT = "Export the model again with `draem export`, if another tool made or changed it"


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


class ModelInput(NamedTuple):
    """What an exported model takes.

    Attributes:
        name: The input's name.
        kind: Its type, as NumPy calls it.
        shape: Its shape without the batch; None for a side of any length.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"`{self.name}`, {self.kind}, (batch, {sides})"


class Runtime(Protocol):
    """Runs a model on images of the network's size."""

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch.

        Args:
            images: (batch, height, width, 3) uint8 RGB at the model's input size.
        """
        ...


def run_checked(runtime: Runtime, images: NDArray[np.uint8]) -> RuntimeOutput:
    """Run a batch.

    Raises:
        InputError: The model fails, or its maps or scores have another shape or type than those of
            draem's models, are not finite or not in [0, 1]: no threshold would catch them.
    """
    try:
        output = runtime.run(images)
    except (DraemError, MemoryError):
        raise
    except Exception as error:  # each library has its own
        raise InputError(
            "the model cannot be run",
            found=shortened(f"{type(error).__name__}: {error}"),
            hint=_OTHERS_HINT,
        ) from error
    _check_shapes(output, images.shape)
    for what, values in (("score", output.anomaly_scores), ("map", output.anomaly_maps)):
        low, high = values.min(), values.max()  # not finite if a value is not
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(
                f"the model gives a {what} that is not finite",
                hint="Check that its weights are finite; train it again if they are not",
            )
        if low < LOWEST_SCORE or high > HIGHEST_SCORE:
            raise InputError(
                f"the model gives a {what} out of range",
                expected="values from 0 to 1",
                found=f"{low:g} to {high:g}",
                hint=_OTHERS_HINT,
            )
    return output


def _check_shapes(output: RuntimeOutput, given: tuple[int, ...]) -> None:
    """Refuse outputs of another shape or type than those for images of a shape."""
    wanted: list[tuple[str, Any, tuple[int, ...], Any]] = [
        (ANOMALY_MAP, output.anomaly_maps, given[:3], np.float32),
        (ANOMALY_SCORE, output.anomaly_scores, given[:1], np.float32),
    ]
    if output.reconstructions is not None:
        wanted.append((RECONSTRUCTION, output.reconstructions, given, np.uint8))
    for name, values, shape, kind in wanted:
        if values.shape != shape or values.dtype != kind:
            raise InputError(
                f"the model gives another `{name}` than draem's models",
                expected=f"{np.dtype(kind)}, {shape}",
                found=f"{values.dtype}, {values.shape}",
                hint=_OTHERS_HINT,
            )


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


def check_input(path: Path, size: tuple[int, int], inputs: Sequence[ModelInput]) -> None:
    """Refuse an exported model that takes something else than its card says.

    Args:
        path: The model file.
        size: Height and width of the images that the card tells.
        inputs: What the model takes.

    Raises:
        ModelFileError: It takes anything but uint8 RGB images of this size.
    """
    wanted = ModelInput(IMAGES, "uint8", (*size, 3))
    if list(inputs) != [wanted]:
        raise ModelFileError(
            "this model does not take the images that its card describes",
            path=path,
            expected=str(wanted),
            found=shortened("; ".join(map(str, inputs))) or "no input",
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
