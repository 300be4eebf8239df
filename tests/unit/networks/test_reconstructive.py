from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from draem.networks.blocks import initialise
from draem.networks.reconstructive import ReconstructiveSubNetwork


def lively(network: nn.Module) -> nn.Module:
    """Weights that let the input be seen in the output."""
    initialise(network, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.mul_(50 * (2 / part.weight[0].numel()) ** 0.5)
    return network.eval()


def test_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        network = ReconstructiveSubNetwork()

    assert sum(parameter.numel() for parameter in network.parameters()) == 69_048_579


@pytest.mark.parametrize("size", [(16, 16), (32, 80), (96, 48)])
def test_output_has_the_size_of_the_input(size: tuple[int, int]) -> None:
    output = ReconstructiveSubNetwork(2).eval()(torch.rand(2, 3, *size))

    assert output.shape == (2, 3, *size)


def test_everything_passes_through_the_bottleneck() -> None:
    network = lively(ReconstructiveSubNetwork(4))
    first, second = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        difference = network(first) - network(second)
        handle = network.encoder.stages[-1].register_forward_hook(
            lambda module, inputs, output: torch.zeros_like(output)
        )
        blocked = network(first) - network(second)
        handle.remove()

    assert float(difference.abs().max()) > 1e-3
    assert float(blocked.abs().max()) == 0


def test_the_bottleneck_has_eight_widths_at_a_sixteenth_of_the_size() -> None:
    network, shapes = ReconstructiveSubNetwork(2).eval(), []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        shapes.append(tuple(output.shape))

    network.encoder.stages[-1].register_forward_hook(note)

    network(torch.rand(1, 3, 64, 32))

    assert shapes == [(1, 16, 4, 2)]
