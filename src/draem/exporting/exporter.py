"""Export a model file, and prove that what was written says the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from draem.embedded import EXPORTED, replace_exported, weights_file, write_embedded
from draem.errors import ExportError, InputError
from draem.exporting.formats import write_mnn, write_onnx, write_openvino
from draem.exporting.graph import WholeGraph
from draem.files import check_writable, explained_output, make_folder, scratch_folder
from draem.inspection.loading import model_path
from draem.inspection.mnn_runtime import EXACT_CODE, load_mnn_runtime
from draem.inspection.onnx_runtime import load_onnx_runtime
from draem.inspection.openvino_runtime import load_openvino_runtime
from draem.inspection.runtime import Runtime, RuntimeOutput
from draem.inspection.scoring import network_filter_side
from draem.inspection.torch_runtime import TorchRuntime, read_network
from draem.model_card import ModelCard
from draem.simulation.palette import procedural_textures

Format = Literal["onnx", "openvino", "mnn"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "mnn": ".mnn"}
TOLERANCE = 1e-4
"""Largest difference between a map or score of the exported model and of the model itself."""
LEVELS = 1
"""Largest difference between reconstructions, in levels of 255: rounding may differ by one."""
_IMAGES = 6
_SCRATCH_HINT = "Make room there, or set TMPDIR to a folder that has room"
_CONVERTERS: dict[Format, tuple[Callable[[Path, Path], None], ...]] = {
    "onnx": (lambda _onnx, _made: None,),
    "openvino": (write_openvino,),
    # The fast one first; what it loses depends on the weights.
    "mnn": (write_mnn, partial(write_mnn, code=EXACT_CODE)),
}
# An Inspector computes map and score inside a region of interest itself, outside the graph.
_RUNTIMES: dict[Format, Callable[[Path], tuple[ModelCard, Runtime]]] = {
    "onnx": load_onnx_runtime,
    "openvino": load_openvino_runtime,
    "mnn": load_mnn_runtime,
}


@dataclass(frozen=True, slots=True)
class Export:
    """What an export wrote.

    Attributes:
        path: The file that `draem.load` takes.
        largest_difference: Between the anomaly maps and scores of both models, over the images
            that they were compared on.
        images: How many these were.
    """

    path: Path
    largest_difference: float
    images: int


def export(
    model: str | Path,
    to: Format = "onnx",
    out: str | Path | None = None,
    *,
    reconstruction: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Write a model for a runtime without torch, run both on the same images and compare.

    The exported model takes `images`, (batch, height, width, 3) uint8 RGB at the model's input
    size and any number at a time, and gives `anomaly_map`, (batch, height, width) float32 in
    [0, 1], and `anomaly_score`, (batch,) float32. The model card travels inside the file.

    Args:
        model: A `.safetensors` model file, or the folder of a run.
        to: `onnx`, `openvino` or `mnn`.
        out: The file to write, with missing folders; next to the model if omitted. OpenVINO
            writes its weights next to it, in a file that ends in `.bin`.
        reconstruction: Give `reconstruction` too, (batch, height, width, 3) uint8 RGB.
        progress: Called with what is being done.

    Raises:
        ModelFileError: The model is missing, damaged or not one of draem's.
        InputError: The format or the file's suffix is unknown, or the model gives maps or scores
            that are not finite.
        ExportError: The exported model says something else than the model; nothing is kept.
        MissingDependencyError: A library that the export needs is not installed.
        OutputError: The file cannot be written.
    """
    say = progress or (lambda _: None)
    source = model_path(model, fetch=False)
    target = _target(source, to, out)
    if source.suffix.lower() in EXPORTED:
        raise InputError(
            "this model is exported already",
            path=source,
            expected="a .safetensors model file, as `draem train` writes it",
            hint="Export the model that this one was made of",
        )
    card, network = read_network(source)
    make_folder(target.parent)
    for each in (target, weights_file(target)):
        if each is not None:
            check_writable(each)
    images = comparison_images(card.network.image_size)
    side = network_filter_side(card.network)
    # Of a copy, as the runtime lays weights out anew.
    cpu = torch.device("cpu")
    expected = TorchRuntime(copy.deepcopy(network), cpu, side).run(images)
    _check_finite(expected, source)
    with scratch_folder() as folder, explained_output(folder, _SCRATCH_HINT):
        # OpenVINO's two files must have one name.
        made = folder / ("model" + SUFFIXES[to])
        onnx = made.with_suffix(".onnx")
        say("Writing")
        write_onnx(
            WholeGraph(network, side, reconstruction=reconstruction),
            card.network.image_size,
            onnx,
        )
        for convert in _CONVERTERS[to]:
            say("Converting")
            convert(onnx, made)
            write_embedded(made, card.model_dump_json())
            say("Comparing")
            _, runtime = _RUNTIMES[to](made)
            found = runtime.run(images)
            largest = largest_difference(expected, found)
            levels = largest_levels(expected, found) if reconstruction else 0
            if largest <= TOLERANCE and levels <= LEVELS:
                break
        else:
            raise ExportError(
                "the exported model says something else than the model",
                path=target,
                expected=f"maps and scores within {TOLERANCE:g}"
                + f", reconstructions within {LEVELS} level of 255" * reconstruction,
                found=f"a difference of {largest:.2g}" + f" and {levels} levels" * reconstruction,
                hint="Nothing was written; export to another format, and please report this",
            )
        replace_exported(made, target)
    return Export(target, largest, _IMAGES)


def _target(source: Path, to: Format, out: str | Path | None) -> Path:
    if to not in get_args(Format):
        raise InputError(
            f"there is no format `{to}`", expected="one of " + ", ".join(get_args(Format))
        )
    target = source.with_suffix(SUFFIXES[to]) if out is None else Path(out)
    if target.suffix.lower() != SUFFIXES[to]:
        raise InputError(
            "the file's suffix does not fit its format",
            path=target,
            expected=f"{SUFFIXES[to]} for {to}: by it `draem.load` picks the runtime",
            hint=f"Write to {target.with_suffix(SUFFIXES[to])}",
        )
    return target


def comparison_images(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Procedural textures, a flat image and one of noise, (6, height, width, 3) uint8 RGB."""
    textures = procedural_textures(size)
    noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    flat = np.full((1, *size, 3), 128, np.uint8)
    return np.concatenate((noise, flat, textures[:: len(textures) // _IMAGES]))[:_IMAGES]


def largest_difference(first: RuntimeOutput, second: RuntimeOutput) -> float:
    """The largest difference of any map value or score; infinite if one is not a number."""
    differences = [
        np.abs(ours - theirs).max() for ours, theirs in zip(first[:2], second[:2], strict=True)
    ]
    largest = float(np.max(differences))
    return largest if np.isfinite(largest) else float("inf")


def largest_levels(first: RuntimeOutput, second: RuntimeOutput) -> int:
    """The largest difference of any value of the reconstructions, in levels of 255."""
    ours, theirs = first.reconstructions, second.reconstructions
    assert ours is not None
    assert theirs is not None
    return int(np.abs(ours.astype(np.int16) - theirs).max())


def _check_finite(output: RuntimeOutput, source: Path) -> None:
    if not all(np.isfinite(values).all() for values in output[:2]):
        raise InputError(
            "the model gives maps or scores that are not finite",
            path=source,
            hint="Check that its weights are finite; train it again if they are not",
        )
