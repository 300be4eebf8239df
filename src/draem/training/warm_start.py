"""The warm start: weights that come with draem, from which a `compact` training begins."""

from __future__ import annotations

from pathlib import Path

from draem.config import ResolvedNetworkConfig
from draem.errors import ModelFileError, RecipeError
from draem.model_card import ModelCard
from draem.model_file import read_card, read_model
from draem.networks.model import Draem

WARM_START = Path(__file__).parent / "warm-start.safetensors"
"""Weights in float16, made by `pretraining/pretrain.py` from rendered pictures and photographs of
scikit-image alone; `docs/warm-start.md` tells the whole story."""


def check_warm_start(network: ResolvedNetworkConfig) -> None:
    """Refuse networks that the warm start does not fit.

    Raises:
        RecipeError: The network's shape or widths differ from those of the warm start.
        ModelFileError: The installed package lacks the file.
    """
    card = _card()
    if _facts(card.network) != _facts(network):
        raise RecipeError(
            "the warm start does not fit this network",
            expected=_words(card.network),
            found=_words(network),
            hint="Start from scratch with --init scratch, or keep the preset's network",
        )


def load_warm_start(network: Draem) -> None:
    """Give a network the weights and batch statistics of the warm start.

    Args:
        network: Of the shape and widths that `check_warm_start` lets pass.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    _, state = read_model(WARM_START)
    network.load_state_dict(state)


def _card() -> ModelCard:
    try:
        return read_card(WARM_START)
    except ModelFileError as error:
        raise ModelFileError(
            "the warm start that comes with draem cannot be read",
            path=WARM_START,
            hint="Install draem again, or train with --init scratch",
        ) from error


def _facts(network: ResolvedNetworkConfig) -> tuple[str, int, int]:
    return network.architecture, network.reconstructive_width, network.discriminative_width


def _words(network: ResolvedNetworkConfig) -> str:
    architecture, reconstructive, discriminative = _facts(network)
    return f"the architecture `{architecture}` with widths {reconstructive} and {discriminative}"
