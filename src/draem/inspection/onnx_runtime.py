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
    damaged,
    named_output,
)

_ERRORS_ONLY = 3


class OnnxRuntime(ExportedRuntime):
    """An exported model in ONNX Runtime."""

    def _open(self, path: Path, threads: int | None) -> tuple[list[ModelInput], list[str]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = bounded_threads(threads) if threads else 0
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            inputs = [
                ModelInput(
                    given.name,
                    given.type.removeprefix("tensor(").removesuffix(")"),
                    tuple(side if isinstance(side, int) else None for side in given.shape[1:]),
                )
                for given in self._session.get_inputs()
            ]
            return inputs, [output.name for output in self._session.get_outputs()]
        except Exception as error:  # its exceptions have no common base but this
            raise damaged(path, "ONNX Runtime") from error

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch of (batch, height, width, 3) uint8 RGB images of the model's size."""
        with self._running():
            outputs = self._session.run(None, {IMAGES: np.ascontiguousarray(images)})
        return named_output(dict(zip(self._names, outputs, strict=True)))


load_onnx_runtime = OnnxRuntime.load
