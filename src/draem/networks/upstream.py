"""Weights of the published code, renamed for our networks.

Source:
    The module names of the published network definitions (github.com/VitjanZ/DRAEM).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from draem._version import __version__
from draem.config import ResolvedNetworkConfig
from draem.errors import ModelFileError, OutputError
from draem.foreign_checkpoint import read_checkpoint
from draem.model_card import ModelCard
from draem.model_file import write_model
from draem.networks.joint import check_image_size
from draem.networks.model import Draem

_STAGE = re.compile(r"encoder(?:_segment)?\.block(\d)\.(\d)\.(.+)")
_UPWARD = re.compile(r"decoder(_segment)?\.up(\d|_b)\.(\d)\.(.+)")
_MERGE = re.compile(r"decoder(_segment)?\.db(\d|_b)\.(\d)\.(.+)")
_HEAD = re.compile(r"decoder(?:_segment)?\.fin_out\.0\.(.+)")

_BGR = [2, 1, 0]


def import_upstream(
    reconstructive: str | Path,
    discriminative: str | Path,
    out: str | Path,
    *,
    image_size: tuple[int, int] = (256, 256),
) -> ModelCard:
    """Convert a checkpoint pair of the published code into a model file.

    The model takes RGB images; it has no threshold until it is calibrated.

    Args:
        reconstructive: The published `NAME.pckl`.
        discriminative: The published `NAME_seg.pckl`.
        out: The `.safetensors` file to write.
        image_size: Height and width of the input; 256x256 as published.

    Returns:
        What the model file says of itself.

    Raises:
        ModelFileError: The files are not checkpoints of the published networks.
        ImageSizeError: The size does not suit the network.
        OutputError: The model file cannot be written, or its name does not end in .safetensors.
    """
    if Path(out).suffix.lower() != ".safetensors":
        raise OutputError("is no name for a model file", path=out, expected="NAME.safetensors")
    check_image_size(*image_size)
    weights = convert_upstream(read_checkpoint(reconstructive), read_checkpoint(discriminative))
    card = ModelCard(
        preset="upstream",
        network=weights.network.replace(image_size=image_size),
        versions={"draem": __version__, "torch": torch.__version__},
    )
    return write_model(out, weights.state, card)


class UpstreamWeights(NamedTuple):
    """A published checkpoint pair in our terms.

    Attributes:
        network: Widths of the published architecture.
        state: What `Draem.load_state_dict` takes, for RGB images.
    """

    network: ResolvedNetworkConfig
    state: dict[str, Tensor]


def convert_upstream(
    reconstructive: Mapping[str, Tensor], discriminative: Mapping[str, Tensor]
) -> UpstreamWeights:
    """Rename a published checkpoint pair and turn its BGR channels into RGB.

    Args:
        reconstructive: State dict of the published reconstructive sub-network (`NAME.pckl`).
        discriminative: State dict of the discriminative one (`NAME_seg.pckl`).

    Raises:
        ModelFileError: The state dicts are not those of the published networks.
    """
    first = _first_weight(reconstructive, "encoder.block1.0.weight", channels=3)
    second = _first_weight(discriminative, "encoder_segment.block1.0.weight", channels=6)
    state = {f"reconstructive.{_rename(name)}": value for name, value in reconstructive.items()}
    state |= {f"discriminative.{_rename(name)}": value for name, value in discriminative.items()}
    state = {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
    network = ResolvedNetworkConfig(
        reconstructive_width=first.shape[0], discriminative_width=second.shape[0]
    )
    weights = UpstreamWeights(network, state)
    _check_complete(weights)
    _swap_channels(state)
    return weights


def _first_weight(state: Mapping[str, Tensor], name: str, channels: int) -> Tensor:
    weight = state.get(name)
    if weight is None or weight.ndim != 4 or weight.shape[1] != channels:
        raise ModelFileError(
            "this is not a checkpoint of the published DRAEM",
            expected=f"a state dict with `{name}` that takes {channels} channels",
            hint="Give the reconstructive checkpoint (NAME.pckl) first and the discriminative one "
            "(NAME_seg.pckl) second",
        )
    return weight


def _rename(name: str) -> str:
    if match := _STAGE.fullmatch(name):
        block, layer, rest = match.groups()
        return f"encoder.stages.{int(block) - 1}.{int(layer) // 3}.{int(layer) % 3}.{rest}"
    if match := _UPWARD.fullmatch(name):
        segment, level, layer, rest = match.groups()
        place = f"upwards.{_level(level)}" if segment else f"decoder.{_level(level) - 1}.0"
        return f"{place}.unit.{int(layer) - 1}.{rest}"
    if match := _MERGE.fullmatch(name):
        segment, level, layer, rest = match.groups()
        place = f"stages.{_level(level)}" if segment else f"decoder.{_level(level) - 1}.1"
        return f"{place}.{int(layer) // 3}.{int(layer) % 3}.{rest}"
    if match := _HEAD.fullmatch(name):
        return f"head.{match.group(1)}"
    return name


def _level(level: str) -> int:
    return 0 if level == "_b" else int(level)


def _check_complete(weights: UpstreamWeights) -> None:
    with torch.device("meta"):
        model = Draem(weights.network)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.state.items()}
    wrong = sorted(
        name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name)
    )
    if wrong:
        raise ModelFileError(
            "this is not a checkpoint of the published DRAEM",
            expected="the layers of the published networks",
            found=f"{len(wrong)} missing, unknown or of another shape, the first `{wrong[0]}`",
        )


def _swap_channels(state: dict[str, Tensor]) -> None:
    entry = "reconstructive.encoder.stages.0.0.0.weight"
    joint = "discriminative.encoder.stages.0.0.0.weight"
    state[entry] = state[entry][:, _BGR].contiguous()
    state[joint] = state[joint][:, [*_BGR, *(3 + channel for channel in _BGR)]].contiguous()
    for part in ("weight", "bias"):
        name = f"reconstructive.head.{part}"
        state[name] = state[name][_BGR].contiguous()
