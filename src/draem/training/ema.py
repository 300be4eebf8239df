"""The moving average of the weights, which is what gets validated, calibrated and saved."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from draem.networks.model import Draem

_Pairs = tuple[list[Tensor], list[Tensor]]


class WeightEma(Callback):
    """Keeps an exponential moving average of the network, batch-normalisation statistics included.

    Early on the average follows the weights faster, so that the random start is soon forgotten:
    the decay after n steps is min(decay, (1 + n) / (10 + n)), and the first step's weights are
    taken as they are.

    Args:
        network: The network in training.
        decay: In [0, 1); 0 follows the weights exactly.
    """

    def __init__(self, network: Draem, decay: float) -> None:
        self._decay = decay
        self._network = copy.deepcopy(network).requires_grad_(False)
        self._mixed: _Pairs = ([], [])
        self._copied: _Pairs = ([], [])

    @property
    def network(self) -> Draem:
        """The averaged network."""
        return self._network

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move the average to where the training runs."""
        self._network.to(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look the tensors up once; after every step this would cost more than averaging them."""
        averages = _tensors(self._network)
        values = _tensors(cast("Draem", pl_module.network))
        pairs = list(zip(averages, values, strict=True))
        self._mixed = _unzipped([pair for pair in pairs if pair[0].is_floating_point()])
        self._copied = _unzipped([pair for pair in pairs if not pair[0].is_floating_point()])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Take the new weights in."""
        steps = trainer.global_step - 1
        decay = min(self._decay, (1 + steps) / (10 + steps)) if steps else 0.0
        # The count of steps is a number, so that nothing has to be read back from a GPU.
        torch._foreach_lerp_(*self._mixed, 1 - decay)
        torch._foreach_copy_(*self._copied)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dict(self._network.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self._network.load_state_dict(state_dict)


def _tensors(network: Draem) -> list[Tensor]:
    return [tensor.detach() for tensor in chain(network.parameters(), network.buffers())]


def _unzipped(pairs: list[tuple[Tensor, Tensor]]) -> _Pairs:
    return [average for average, _ in pairs], [value for _, value in pairs]
