"""What must hold before a training begins."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from draem.config import SIZE_STEP, ResolvedRecipe, TrainingConfig
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


_NOT_PRETRAINED = (
    "optimizer",
    "weight_decay",
    "learning_rate",
    "schedule",
    "l2_weight",
    "ssim_weight",
    "ssim_of",
    "focal_weight",
    "focal_gamma",
    "average_decay",
    "activation_checkpointing",
    "init",
    "checkpoint_seconds",
    "precision",
)


def check_pretrained(recipe: ResolvedRecipe, devices: int) -> None:
    """Refuse what the architecture `pretrained` would pass over in silence.

    Raises:
        InputError: An option has no meaning for it, or there are several devices.
    """
    if recipe.network.architecture != "pretrained":
        return
    usual = TrainingConfig(steps=1)
    if given := [
        name for name in _NOT_PRETRAINED if getattr(recipe.training, name) != getattr(usual, name)
    ]:
        raise InputError(
            "these options mean nothing for the architecture `pretrained`: " + ", ".join(given),
            expected="memories that are fitted, not trained by gradient descent",
            hint="Leave them out, or choose another preset",
        )
    if recipe.trained_size != recipe.network.image_size:
        raise InputError(
            "the architecture `pretrained` takes whole images, not windows of "
            f"{recipe.simulation.crop} pixels",
            expected="a `crop` as large as the images, or none",
            hint="Leave `crop` out of the recipe, or choose another preset",
        )
    if devices > 1:
        raise InputError(
            f"`pretrained` trains on one device, not {devices}", hint="Leave --devices out"
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
