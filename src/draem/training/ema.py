"""Exponential moving average (EMA) of the weights: the model that is validated and saved."""

from __future__ import annotations

import copy
from itertools import chain

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from draem.networks.model import Draem


class WeightEma:
    """Averages a network's weights and batch-normalisation statistics.

    Early on the average follows the weights faster, so that the random start is soon forgotten:
    the decay after n steps is min(decay, (1 + n) / (10 + n)), and the first step's weights are
    taken as they are.

    Args:
        network: The network in training, on its device.
        decay: In [0, 1); 0 follows the weights exactly.
    """

    def __init__(self, network: Draem, decay: float) -> None:
        self._decay = decay
        self._network = copy.deepcopy(network).requires_grad_(False)
        # Looked up once: after every step this would cost more than averaging the tensors.
        pairs = list(zip(_tensors(self._network), _tensors(network), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._averages, self._values = [pair[0] for pair in floats], [pair[1] for pair in floats]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @property
    def network(self) -> Draem:
        """The averaged network."""
        for count, value in self._counts:
            count.copy_(value)
        return self._network

    def update(self, step: int) -> None:
        """Take in the weights after so many steps, 1 or more."""
        earlier = step - 1
        decay = min(self._decay, (1 + earlier) / (10 + earlier)) if earlier else 0.0
        get_ema_multi_avg_fn(decay)(self._averages, self._values, earlier)


def _tensors(network: Draem) -> list[Tensor]:
    return [tensor.detach() for tensor in chain(network.parameters(), network.buffers())]
