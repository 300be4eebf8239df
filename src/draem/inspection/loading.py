"""Load a model file: its suffix picks the runtime."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from draem.errors import InputError, ModelFileError, missing_dependency
from draem.imaging.roi import RoiLike
from draem.inspection.hub import hub_file, is_hub_address
from draem.inspection.inspector import Inspector
from draem.inspection.runtime import Runtime
from draem.model_card import ModelCard
from draem.model_file import check_exists


class _Home(NamedTuple):
    """Where the runtime of one kind of file is."""

    module: str
    loader: str
    library: str
    extra: str


_RUNTIMES = {
    ".safetensors": _Home("torch_runtime", "load_torch_runtime", "torch", "train"),
    ".onnx": _Home("onnx_runtime", "load_onnx_runtime", "onnxruntime", ""),
    ".xml": _Home("openvino_runtime", "load_openvino_runtime", "openvino", "openvino"),
    ".mnn": _Home("mnn_runtime", "load_mnn_runtime", "MNN", "mnn"),
}


def load(
    path: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    min_area: int = 0,
    region_of_interest: RoiLike | None = None,
) -> Inspector:
    """Load a trained model; the file's suffix picks the runtime.

    Args:
        path: A `.safetensors` model file, as `draem train` writes it, or what `draem export`
            makes of it: `.onnx`, `.xml` (OpenVINO) or `.mnn`. It may be on the Hugging Face Hub:
            `hf://ORGANISATION/NAME/model.onnx@REVISION`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`; exported models run on the CPU alone.
        threads: How many CPU threads the model may use; None for one per core, which is the most
            that an exported model takes. For a `.safetensors` model this is torch's setting for
            the whole process.
        min_area: Regions of fewer pixels of the original image are not listed; see `Inspector`.
        region_of_interest: Inspect nothing outside it; see `Inspector`.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's, or cannot be fetched.
        ImageError: The mask of the region of interest cannot be read.
        InputError: There is no such device, the number of threads is not positive, the smallest
            area is negative, or there is nothing to inspect.
        MissingDependencyError: The library that runs such files is not installed.
    """
    path = model_path(path)
    if threads is not None and threads < 1:
        raise InputError("the number of threads must be positive", found=str(threads))
    check_kind(path)
    card, runtime = load_runtime(path, device, threads)
    return Inspector(card, runtime, min_area=min_area, region_of_interest=region_of_interest)


def load_runtime(path: Path, device: str, threads: int | None) -> tuple[ModelCard, Runtime]:
    """The card of a model file and what runs it; errors as of `load`."""
    home = _RUNTIMES[path.suffix.lower()]
    try:
        module = importlib.import_module(f"draem.inspection.{home.module}")
        found: tuple[ModelCard, Runtime] = getattr(module, home.loader)(path, device, threads)
    except ImportError as error:
        what = f"running a {path.suffix.lower()} model"
        raise missing_dependency(error, what, home.extra, home.library) from error
    return found


def check_kind(path: Path) -> None:
    """Refuse a file that no runtime is known for, and a path where there is no file.

    Raises:
        ModelFileError: It is one of these.
    """
    if path.suffix.lower() not in _RUNTIMES and path.is_file():
        raise ModelFileError(
            "no runtime is known for this kind of file",
            path=path,
            expected="a model file that ends in " + ", ".join(_RUNTIMES),
            hint="`draem train` and `draem export` write them; `draem import-upstream` converts "
            "published checkpoints",
        )
    # Before the library is looked for: who mistypes a name needs no library.
    check_exists(path)


def model_path(path: str | Path, *, fetch: bool = True) -> Path:
    """The model file that a path means: itself, the model in a run's folder, or one on the Hub.

    Args:
        path: What was given.
        fetch: Whether it may be on the Hub; not where something is written next to it.

    Raises:
        ModelFileError: It cannot be fetched from the Hub, or may not be there.
        MissingDependencyError: It is on the Hub, and huggingface_hub is not installed.
    """
    if is_hub_address(path):
        if not fetch:
            raise ModelFileError(
                f"{path} is on the Hub",
                expected="a model file of your own, which can be changed or written next to",
                hint="Download it first: hf download",
            )
        return hub_file(path)
    path = Path(path)
    inside = path / "model.safetensors"
    return inside if inside.is_file() else path
