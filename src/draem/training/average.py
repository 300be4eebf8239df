"""The moving average of the weights, which is what gets validated, calibrated and saved."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from draem.networks.model import Draem


class MovingAverage(Callback):
    """Keeps an exponential moving average of the network, batch-normalisation statistics included.

    Early on the average follows the weights faster, so that the random start is soon forgotten:
    the decay after n steps is min(decay, (1 + n) / (10 + n)).

    Args:
        network: The network in training.
        decay: In [0, 1); 0 follows the weights exactly.
    """

    def __init__(self, network: Draem, decay: float) -> None:
        self._steps = 0

        def mix(averages: Any, values: Any, _count: Any) -> None:
            # Torch's own count lies on the device, where reading it would wait for the GPU.
            _mix(averages, values, min(decay, (1 + self._steps) / (10 + self._steps)))

        self._average = AveragedModel(network, multi_avg_fn=mix, use_buffers=True)
        self._average.requires_grad_(False)

    @property
    def network(self) -> Draem:
        """The averaged network."""
        return cast("Draem", self._average.module)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move the average to where the training runs."""
        self._average.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Take the new weights in."""
        self._steps = trainer.global_step - 1
        self._average.update_parameters(cast("Draem", pl_module.network))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dict(self._average.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self._average.load_state_dict(state_dict)


def _mix(averages: list[Tensor], values: list[Tensor], decay: float) -> None:
    if torch.is_floating_point(averages[0]):
        torch._foreach_lerp_(averages, values, 1 - decay)
    else:
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)
