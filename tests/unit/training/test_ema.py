from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from draem.networks.model import Draem
from draem.training.ema import WeightEma
from tests.support import small_draem


class Operations(TorchDispatchMode):
    """Notes the name of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # the signature is torch's
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def change(network: Draem, generator: torch.Generator) -> None:
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value += torch.randn(value.shape, generator=generator)
            else:
                value += 1


def test_the_average_follows_its_definition() -> None:
    network, generator = (
        small_draem(2, 2, "compact"),
        torch.Generator().manual_seed(0),
    )
    average = WeightEma(network, 0.5)
    expected: dict[str, torch.Tensor] = {}
    for step in range(1, 12):
        change(network, generator)
        # 0 at first, then 2/11, 3/12 and so on up to the limit.
        decay = 0.0 if step == 1 else min(0.5, step / (9 + step))
        for name, value in network.state_dict().items():
            mixed = value.double()
            if value.is_floating_point() and step > 1:
                mixed = decay * expected[name] + (1 - decay) * mixed
            expected[name] = mixed.clone()
        average.update(step)

    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-5)
    assert not torch.equal(
        average.network.state_dict()["discriminative.head.weight"],
        network.state_dict()["discriminative.head.weight"],
    )


def test_without_decay_it_is_the_network() -> None:
    network, generator = (
        small_draem(2, 2, "compact"),
        torch.Generator().manual_seed(1),
    )
    average = WeightEma(network, 0.0)
    for step in (1, 2, 3):
        change(network, generator)
        average.update(step)

    for name, value in average.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_training_the_network_does_not_touch_the_average() -> None:
    network = small_draem(2, 2, "compact")
    average = WeightEma(network, 0.9)
    averages = dict(average.network.named_parameters())  # counts of batches follow the network
    before = {name: value.clone() for name, value in averages.items()}

    change(network, torch.Generator().manual_seed(2))

    assert all(torch.equal(before[name], value) for name, value in averages.items())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_a_resumed_average_goes_on_where_it_was() -> None:
    network, generator = (
        small_draem(2, 2, "compact"),
        torch.Generator().manual_seed(3),
    )
    average = WeightEma(network, 0.9)
    for step in (1, 2):
        change(network, generator)
        average.update(step)
    resumed = WeightEma(network, 0.9)
    saved = {name: value.clone() for name, value in average.network.state_dict().items()}
    resumed.network.load_state_dict(saved)
    change(network, generator)

    for each in (average, resumed):
        each.update(3)

    for name, value in average.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])


@pytest.mark.parametrize("width", [2, 4])
def test_a_step_takes_one_operation_and_reads_nothing_back(width: int) -> None:
    network = small_draem(width, width)
    average = WeightEma(network, 0.9)

    with Operations() as operations:
        average.update(5)

    # One by one they would be hundreds; `_local_scalar_dense` would wait for a GPU.
    assert operations.names == ["_foreach_lerp_.Scalar"]
