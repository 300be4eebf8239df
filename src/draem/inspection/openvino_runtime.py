"""Inference with OpenVINO, from a file that `draem export --to openvino` wrote."""

from __future__ import annotations

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draem.inspection.exported import ExportedRuntime
from draem.inspection.runtime import (
    ModelInput,
    RuntimeOutput,
    bounded_threads,
    damaged,
    named_output,
)


class OpenVinoRuntime(ExportedRuntime):
    """An exported model in OpenVINO."""

    def _open(self, path: Path, threads: int | None) -> tuple[list[ModelInput], list[str]]:
        import openvino

        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(bounded_threads(threads))
        try:
            compiled = _core(openvino).compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            raise damaged(path, "OpenVINO") from error
        self._request = compiled.create_infer_request()
        names = [output.get_any_name() for output in compiled.outputs]
        return [_described(given) for given in compiled.inputs], names

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch of (batch, height, width, 3) uint8 RGB images of the model's size."""
        with self._one_at_a_time, self._running():
            outputs = self._request.infer([np.ascontiguousarray(images)], share_outputs=False)
            return named_output({name: outputs[name] for name in self._names})


@functools.cache
def _core(openvino: ModuleType) -> Any:
    """The only core of the process, which is never freed.

    Each core gives signal handlers a stack of its own, and the earlier one back when it is freed.
    Of two, the first to go leaves a stack in use that is gone, and the next signal is the end.
    """
    return openvino.Core()


def _described(given: Any) -> ModelInput:
    sides = [None if side.is_dynamic else side.get_length() for side in given.get_partial_shape()]
    return ModelInput(given.get_any_name(), str(given.get_element_type().to_dtype()), (*sides[1:],))


load_openvino_runtime = OpenVinoRuntime.load
