"""Inference with ONNX Runtime, from a file that `draem export --to onnx` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.inspection.exported import ExportedRuntime
from draem.inspection.runtime import (
    IMAGES,
    ModelInput,
    RuntimeOutput,
    bounded_threads,
    check_exported,
    check_input,
    damaged,
    named_output,
)
from draem.model_card import ModelCard
from draem.model_file import read_card

_ERRORS_ONLY = 3


class OnnxRuntime(ExportedRuntime):
    """An exported model in ONNX Runtime on the CPU.

    Args:
        path: The `.onnx` file.
        device: `auto` or `cpu`.
        threads: How many it may use, at most one per core; None for one per core.
        fingerprint: That of the model's weights, which a pickle is compared with.

    Raises:
        ModelFileError: ONNX Runtime cannot load it, or an output is missing.
        InputError: The device is not the CPU.
    """

    def __init__(
        self,
        path: Path,
        device: str = "auto",
        threads: int | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(path, device, threads, fingerprint)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = bounded_threads(threads) if threads else 0
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base but this
            raise damaged(path, "ONNX Runtime") from error
        self._names = [output.name for output in self._session.get_outputs()]
        check_exported(path, device, self._names)

    @property
    def inputs(self) -> list[ModelInput]:
        """What the model takes."""
        return [
            ModelInput(
                given.name,
                given.type.removeprefix("tensor(").removesuffix(")"),
                tuple(side if isinstance(side, int) else None for side in given.shape[1:]),
            )
            for given in self._session.get_inputs()
        ]

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch of (batch, height, width, 3) uint8 RGB images of the model's size."""
        with self._running():
            outputs = self._session.run(None, {IMAGES: np.ascontiguousarray(images)})
        return named_output(dict(zip(self._names, outputs, strict=True)))


def load_onnx_runtime(
    path: Path, device: str = "auto", threads: int | None = None
) -> tuple[ModelCard, OnnxRuntime]:
    """Read an exported model and make it ready to run; errors as of `OnnxRuntime`."""
    card = read_card(path)
    runtime = OnnxRuntime(path, device, threads, card.fingerprint)
    check_input(path, card.network.image_size, runtime.inputs)
    return card, runtime
