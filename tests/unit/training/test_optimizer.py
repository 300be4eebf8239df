from __future__ import annotations

import pytest
import torch
from torch import nn

from draem.networks.model import Draem
from draem.training.optimizer import make_optimizer
from tests.support import small_draem


def optimizer_of(network: Draem, kind: str, weight_decay: float = 0.1) -> torch.optim.Optimizer:
    return make_optimizer(network, kind, learning_rate=0.01, weight_decay=weight_decay)


def test_adam_takes_every_parameter_without_decay() -> None:
    network = small_draem(2, 2)

    optimizer = optimizer_of(network, "adam")

    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]
    assert (group["lr"], group["weight_decay"]) == (0.01, 0)


@pytest.mark.parametrize("architecture", ["published", "compact"])
def test_adamw_decays_the_weights_of_convolutions_alone(architecture: str) -> None:
    network = small_draem(2, 2, architecture)

    optimizer = optimizer_of(network, "adamw")

    assert type(optimizer) is torch.optim.AdamW
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert {group["lr"] for group in optimizer.param_groups} == {0.01}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(decays)
    assert decays.keys() == {id(parameter) for parameter in network.parameters()}
    for part in network.modules():
        for name, parameter in part.named_parameters(recurse=False):
            decayed = isinstance(part, nn.Conv2d) and name == "weight"
            assert decays[id(parameter)] == (0.1 if decayed else 0.0)


def test_a_step_without_gradient_only_decays() -> None:
    network = small_draem(2, 2, "compact").to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = optimizer_of(network, "adamw")
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)

    optimizer.step()

    for name, parameter in network.named_parameters():
        # AdamW takes learning rate times decay off the weight itself.
        expected = before[name] * (1 - 0.01 * 0.1 if parameter.ndim > 1 else 1)
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_the_fused_step_is_that_of_the_definition(kind: str) -> None:
    network = small_draem(2, 2, "compact").to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = optimizer_of(network, kind)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    output = network(images.contiguous(memory_format=torch.channels_last))
    (output.reconstruction.square().mean() + output.mask_logits.square().mean()).backward()

    optimizer.step()

    assert optimizer.defaults["fused"] is True
    for name, parameter in network.named_parameters():
        # After one step the moments are the gradient and its square, whatever the betas.
        assert parameter.grad is not None
        pull = parameter.grad / (parameter.grad.abs() + 1e-8)
        decay = 0.1 if kind == "adamw" and parameter.ndim > 1 else 0
        torch.testing.assert_close(
            parameter.detach(),
            before[name] * (1 - 0.01 * decay) - 0.01 * pull,
            atol=1e-4,
            rtol=0,
            msg=name,
        )
