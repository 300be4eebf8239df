"""Is an 8-bit model faster, and what does it lose?

    python benchmarks/int8.py RUN CATEGORY [RUN CATEGORY ...] [--images 32] [--threads 2]

Exports each run to ONNX, quantises it with ONNX Runtime's static quantiser on the category's good
training images, and measures both on the test set. Prints speed and figures, and writes JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import draem
from draem.datasets.mvtec import read_normal_images
from draem.embedded import read_embedded, write_embedded
from draem.imaging.decode import decode_image
from draem.inspection.runtime import IMAGES
from machine import machine, write_result
from turns import in_turn, timed

COLUMNS = ("image_auroc", "pixel_auroc", "pixel_ap")
_ROUNDS = 15


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    rows: list[dict[str, Any]] = []
    for run, category in zip(arguments.pairs[::2], arguments.pairs[1::2], strict=True):
        rows += _measure(Path(run), Path(category), arguments.images, arguments.threads)
        for row in rows[-2:]:
            figures = "  ".join(f"{name} {100 * row[name]:.1f}" for name in COLUMNS)
            print(f"{row['category']:<10} {row['way']:<10} {row['ms']:>7.1f} ms  {figures}")
    document = {"benchmark": "int8", "machine": machine(), "rows": rows}
    write_result("int8", document | {"threads": arguments.threads})


def _measure(run: Path, category: Path, images: int, threads: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        single = draem.export(run, "onnx", folder / "single.onnx").path
        quantised = _quantised(single, category, images, folder)
        files = {"onnx fp32": single, "onnx int8": quantised}
        inspectors = {name: draem.load(path, threads=threads) for name, path in files.items()}
        milliseconds = _milliseconds(inspectors, category)
        return [
            {
                "category": category.name,
                "way": name,
                "ms": milliseconds[name],
                **{
                    figure: value
                    for figure, value in draem.evaluate(inspector, category).metrics.items()
                    if figure in COLUMNS
                },
            }
            for name, inspector in inspectors.items()
        ]


class _GoodImages(CalibrationDataReader):
    """Good training images, one a time, as the quantiser asks for them."""

    def __init__(self, inspector: draem.Inspector, paths: list[Path]) -> None:
        self._left = iter(paths)
        self._inspector = inspector

    def get_next(self) -> dict[str, np.ndarray] | None:
        path = next(self._left, None)
        if path is None:
            return None
        return {IMAGES: self._inspector.prepare(decode_image(path))[None]}


def _quantised(single: Path, category: Path, images: int, folder: Path) -> Path:
    prepared, made = folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(str(single), str(prepared), skip_symbolic_shape=True)
    paths = read_normal_images(category)
    chosen = paths[:: max(1, len(paths) // images)]
    quantize_static(
        str(prepared),
        str(made),
        _GoodImages(draem.load(single), chosen),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Without matrix units for bytes, sums of two products overflow 16 bits.
        reduce_range=True,
        op_types_to_quantize=["Conv", "MaxPool", "Concat", "Resize"],
    )
    text = read_embedded(single)
    assert text is not None
    write_embedded(made, text)
    return made


def _milliseconds(inspectors: dict[str, draem.Inspector], category: Path) -> dict[str, float]:
    first = next(iter(inspectors.values()))
    image = first.prepare(decode_image(read_normal_images(category)[0]))[None]
    turns = {name: timed(partial(each.run, image)) for name, each in inspectors.items()}
    taken = in_turn(turns, _ROUNDS)
    return {name: 1000 * statistics.median(each) for name, each in taken.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="RUN CATEGORY", help="a run and its category")
    parser.add_argument("--images", type=int, default=32, help="to quantise with")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if len(arguments.pairs) % 2:
        parser.error("give a category for every run")
    return arguments


if __name__ == "__main__":
    main()
