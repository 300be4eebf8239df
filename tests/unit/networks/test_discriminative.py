from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from draem.networks.blocks import initialise
from draem.networks.discriminative import DiscriminativeSubNetwork


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
        network = DiscriminativeSubNetwork()

    assert sum(parameter.numel() for parameter in network.parameters()) == 28_374_146


@pytest.mark.parametrize("size", [(32, 32), (32, 96), (64, 32)])
def test_two_logits_a_pixel(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)

    logits = DiscriminativeSubNetwork(2).eval()(images, images)

    assert logits.shape == (2, 2, *size)


@pytest.mark.parametrize("level", range(6))
def test_every_level_of_the_encoder_reaches_the_output_directly(level: int) -> None:
    network = lively(DiscriminativeSubNetwork(4))
    generator = torch.Generator().manual_seed(3)
    images, reconstruction = torch.rand(2, 1, 3, 64, 64, generator=generator)

    def output_with(kept: list[int]) -> Tensor:
        def keep(module: nn.Module, inputs: object, levels: list[Tensor]) -> list[Tensor]:
            return [
                features if number in kept else torch.zeros_like(features)
                for number, features in enumerate(levels)
            ]

        handle = network.encoder.register_forward_hook(keep)
        with torch.no_grad():
            logits: Tensor = network(reconstruction, images)
        handle.remove()
        return logits

    assert float((output_with([level]) - output_with([])).abs().max()) > 1e-4


def test_reconstruction_and_image_are_told_apart() -> None:
    network = lively(DiscriminativeSubNetwork(4))
    generator = torch.Generator().manual_seed(4)
    images, reconstruction = torch.rand(2, 1, 3, 32, 32, generator=generator)

    with torch.no_grad():
        difference = network(reconstruction, images) - network(images, reconstruction)

    assert float(difference.abs().max()) > 1e-3


def test_the_reconstruction_comes_first() -> None:
    network = DiscriminativeSubNetwork(2).eval()
    seen = []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    network(torch.full((1, 3, 32, 32), 0.25), torch.full((1, 3, 32, 32), 0.75))

    assert seen[0][0, :, 0, 0].tolist() == [0.25, 0.25, 0.25, 0.75, 0.75, 0.75]
