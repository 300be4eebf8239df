"""Inference with OpenVINO, from a file that `draem export --to openvino` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draem.inspection.exported import ExportedRuntime
from draem.inspection.runtime import (
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


class OpenVinoRuntime(ExportedRuntime):
    """An exported model in OpenVINO on the CPU.

    Attributes:
        inputs: What the model takes.

    Args:
        path: The `.xml` file; its weights are next to it in a `.bin` file.
        device: `auto` or `cpu`.
        threads: How many it may use, at most one per core; None for one per core.
        fingerprint: That of the model's weights, which a pickle is compared with.

    Raises:
        ModelFileError: OpenVINO cannot load it, or an output is missing.
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
        import openvino

        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(bounded_threads(threads))
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            raise damaged(path, "OpenVINO") from error
        self._request = compiled.create_infer_request()
        self._names = [output.get_any_name() for output in compiled.outputs]
        self.inputs = [_described(given) for given in compiled.inputs]
        check_exported(path, device, self._names)

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch of (batch, height, width, 3) uint8 RGB images of the model's size."""
        with self._one_at_a_time, self._running():
            outputs = self._request.infer([np.ascontiguousarray(images)], share_outputs=False)
            return named_output({name: outputs[name] for name in self._names})


def _described(given: Any) -> ModelInput:
    sides = [None if side.is_dynamic else side.get_length() for side in given.get_partial_shape()]
    return ModelInput(given.get_any_name(), str(given.get_element_type().to_dtype()), (*sides[1:],))


def load_openvino_runtime(
    path: Path, device: str = "auto", threads: int | None = None
) -> tuple[ModelCard, OpenVinoRuntime]:
    """Read an exported model and make it ready to run; errors as of `OpenVinoRuntime`."""
    card = read_card(path)
    runtime = OpenVinoRuntime(path, device, threads, card.fingerprint)
    check_input(path, card.network.image_size, runtime.inputs)
    return card, runtime
