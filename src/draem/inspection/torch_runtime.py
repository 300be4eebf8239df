"""Inference with PyTorch, straight from a `.safetensors` model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from draem.errors import ModelFileError
from draem.inspection.runtime import RuntimeOutput
from draem.inspection.scoring import network_filter_side
from draem.inspection.torch_scoring import anomaly_maps, anomaly_scores
from draem.model_card import ModelCard
from draem.model_file import read_model
from draem.networks.devices import (
    explained_fork,
    explained_memory,
    full_precision,
    resolve_device,
    set_threads,
)
from draem.networks.factory import empty_network
from draem.networks.joint import JointModel, check_image_size


class TorchRuntime:
    """A trained model on a torch device.

    In a forked process it uses one thread.

    Args:
        model: The weights; folded and moved, the module that is passed stays usable elsewhere
            only as a copy.
        device: Where to run.
        side: Side of the score's mean filter in pixels.
    """

    def __init__(self, model: JointModel, device: torch.device, side: int) -> None:
        model.eval().requires_grad_(False)
        fold_batch_norm(model)
        with explained_fork():
            self._model = model.to(device)
        self._model.use_channels_last()
        self._device = device
        self._side = side

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch of (batch, height, width, 3) uint8 RGB images of the model's size."""
        hint = "Inspect on another device, or train for a smaller image size"
        with torch.inference_mode(), full_precision(), explained_memory(hint), explained_fork():
            # torch takes no array with negative strides, such as one turned from BGR to RGB.
            pixels = torch.from_numpy(np.array(images, order="C")).to(self._device)
            pixels = pixels.permute(0, 3, 1, 2)  # (batch, 3, height, width)
            output = self._model(pixels.float() / 255)  # (batch, 3 and 2, height, width)
            maps = anomaly_maps(output.mask_logits)
            scores = anomaly_scores(maps, self._side)
            return RuntimeOutput(
                anomaly_maps=maps[:, 0].cpu().numpy(),
                anomaly_scores=scores.cpu().numpy(),
                reconstructions=as_pixels(output.reconstruction).cpu().numpy(),
            )


def as_pixels(reconstruction: Tensor) -> Tensor:
    """(batch, 3, height, width), about [0, 1], to (batch, height, width, 3) uint8 RGB."""
    return (reconstruction.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def load_torch_runtime(
    path: str | Path, device: str = "auto", threads: int | None = None
) -> tuple[ModelCard, TorchRuntime]:
    """Read a `.safetensors` model file and make it ready to run.

    Args:
        path: The model file.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        threads: How many CPU threads torch may use in this process, one if it was forked; None
            leaves its setting.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's.
        ImageSizeError: Its image size does not suit the network.
        InputError: There is no such device.
    """
    card, model = read_network(path)
    if threads:
        set_threads(threads)
    side = network_filter_side(card.network)
    return card, TorchRuntime(model, resolve_device(device), side)


def read_network(path: str | Path) -> tuple[ModelCard, JointModel]:
    """Read a `.safetensors` model file into networks, on the CPU.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's.
        ImageSizeError: Its image size does not suit the network.
    """
    card, state = read_model(path)
    check_image_size(*card.network.image_size)
    with torch.device("meta"):
        model = empty_network(card.network)
    wanted = {name: value.dtype for name, value in model.state_dict().items()}
    for name, value in state.items():
        if value.dtype != wanted.get(name, value.dtype):
            raise ModelFileError(
                f"the weights `{name}` are of a type that draem does not run",
                path=path,
                expected=str(wanted[name]),
                found=str(value.dtype),
                hint="Use the file as draem wrote it, or convert the weights back",
            )
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelFileError(
            "the weights do not fit the network that the file describes", path=path
        ) from error
    return card, model


def fold_batch_norm(model: nn.Module) -> None:
    """Merge every batch normalisation into the convolution before it, in place.

    The model computes the same in evaluation mode, with fewer operations.
    """
    for part in model.modules():
        if isinstance(part, nn.Sequential):
            for index in range(len(part) - 1):
                first, second = part[index], part[index + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    part[index] = fuse_conv_bn_eval(first, second)
                    part[index + 1] = nn.Identity()
