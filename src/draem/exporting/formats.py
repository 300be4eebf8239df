"""The writers, one a kind of file: ONNX from torch, OpenVINO and MNN from ONNX."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from draem.errors import ExportError, OutputError, missing_dependency
from draem.exporting.graph import WholeGraph
from draem.files import scratch_folder
from draem.inspection.mnn_runtime import CODE, silenced
from draem.inspection.runtime import IMAGES

OPSET = 18


def write_onnx(graph: WholeGraph, image_size: tuple[int, int], target: Path) -> None:
    """Write an ONNX file that takes any number of images at a time.

    Args:
        graph: What to write.
        image_size: Height and width of its images.
        target: The file.

    Raises:
        MissingDependencyError: `onnx` or `onnxscript` is not installed.
    """
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, *image_size, 3, dtype=torch.uint8)
    with _explained("train"), _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            input_names=[IMAGES],
            output_names=graph.output_names,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(target)


def write_openvino(onnx: Path, target: Path) -> None:
    """Convert an ONNX file to OpenVINO's `.xml`, with the weights next to it in a `.bin` file.

    Raises:
        MissingDependencyError: `openvino` is not installed.
    """
    with _explained("openvino", "openvino"):
        import openvino
    # Read by the core: `convert_model` would send usage data.
    model = openvino.Core().read_model(onnx)
    try:
        openvino.save_model(model, target, compress_to_fp16=False)
    except RuntimeError as error:  # its word for a full disk
        raise OutputError(
            "OpenVINO cannot write the model",
            path=target,
            found=str(error).splitlines()[0],
            hint="Make room there, or set TMPDIR to a folder that has room",
        ) from error


def write_mnn(onnx: Path, target: Path, code: str = CODE) -> None:
    """Convert an ONNX file to MNN.

    Args:
        onnx: The file to convert.
        target: The file to write.
        code: `CODE`, or `EXACT_CODE` for slower and more exact convolutions.

    Raises:
        MissingDependencyError: `MNN` is not installed.
        ExportError: MNN's converter fails.
    """
    with _explained("mnn", "MNN"), silenced():
        import _tools
        import MNN  # noqa: F401 - the converter needs its libraries
    # The converter takes no path that is not ASCII, and says nothing of why it failed.
    with scratch_folder() as folder:
        made = folder / "model.mnn"
        given = folder / "model.onnx"
        given.write_bytes(onnx.read_bytes())
        arguments = ["-f", "ONNX", "--modelFile", str(given), "--MNNModel", str(made)]
        with silenced():
            _tools.mnnconvert(["mnnconvert", *arguments, "--bizCode", code])
        if not made.exists():
            raise ExportError(
                "MNN's converter could not convert this model",
                path=target,
                hint="Export it to onnx instead",
            )
        target.write_bytes(made.read_bytes())


@contextlib.contextmanager
def _explained(extra: str, package: str | None = None) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise missing_dependency(error, "this export", extra, package) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on operators that no model of ours has."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
