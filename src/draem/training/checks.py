"""What must hold before a training begins."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from draem.config import SIZE_STEP, ResolvedRecipe
from draem.errors import InputError, OutputError


def is_helper_process() -> bool:
    """Whether this is another than the first of several training processes."""
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "RANK"))


def check_out(out: str | Path, data: str | Path) -> None:
    """Refuse a run's folder whose pictures would be found among the training images.

    Raises:
        OutputError: The folder lies there.
    """
    root, run = Path(data).resolve(), Path(out).resolve()
    if run.is_relative_to(root) and not (root / "train" / "good").is_dir():
        raise OutputError(
            "the run would be among the training images, and its pictures would be taken for them",
            path=out,
            hint="Give a folder outside the data with --out",
        )


def check_devices(devices: int, recipe: ResolvedRecipe, device: torch.device) -> None:
    """Refuse devices, precisions and batches that do not go together.

    Raises:
        InputError: It says what would.
    """
    batch_size, precision = recipe.training.batch_size, recipe.training.precision
    if devices < 1 or batch_size % devices:
        raise InputError(
            f"the batch of {batch_size} cannot be shared among {devices} devices",
            expected="a batch size divisible by the number of devices",
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"there are not {devices} GPUs on this machine", found=str(torch.cuda.device_count())
        )
    if devices > 1 and device.index is not None:
        raise InputError(
            f"`{device}` is one device, not {devices}", hint="Give --device cuda with --devices"
        )
    if device.type == "cpu" and precision == "16":
        raise InputError(
            "the CPU does not train in float16", hint="Choose the precision 32, bf16 or auto"
        )
    height, width = recipe.trained_size
    if batch_size // devices * (height // SIZE_STEP) * (width // SIZE_STEP) < 2:
        raise InputError(
            "one 32x32 image per step is too little for batch normalisation",
            hint="Choose a larger batch size, image size or window",
        )
