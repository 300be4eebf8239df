from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from draem.networks.blocks import Encoder, UpBlock, conv_stage, conv_unit, initialise


def test_a_unit_is_convolution_normalisation_and_relu() -> None:
    unit = conv_unit(3, 5).eval()
    convolution, normalisation, _ = unit
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(normalisation, nn.BatchNorm2d)
    with torch.no_grad():
        convolution.weight.zero_()
        assert convolution.bias is not None
        convolution.bias.copy_(torch.arange(5.0))
        normalisation.running_mean.copy_(torch.full((5,), 2.0))  # type: ignore[union-attr]
        normalisation.running_var.copy_(torch.full((5,), 0.25))  # type: ignore[union-attr]

        features = unit(torch.zeros(2, 3, 6, 7))

    assert features.shape == (2, 5, 6, 7)
    # (bias - 2) / sqrt(0.25), negative values cut off.
    expected = torch.tensor([0.0, 0.0, 0.0, 2.0, 4.0]).view(1, 5, 1, 1).expand(2, 5, 6, 7)
    torch.testing.assert_close(features, expected, atol=1e-3, rtol=0)


def test_a_stage_passes_through_its_middle_width() -> None:
    widths = [
        (m.in_channels, m.out_channels)
        for m in conv_stage(3, 7, 5).modules()
        if isinstance(m, nn.Conv2d)
    ]

    assert widths == [(3, 7), (7, 5)]


def test_the_encoder_gives_every_level_the_finest_first() -> None:
    levels = Encoder(3, (2, 4, 6))(torch.rand(2, 3, 16, 24))

    assert [tuple(level.shape) for level in levels] == [
        (2, 2, 16, 24),
        (2, 4, 8, 12),
        (2, 6, 4, 6),
    ]


def test_upward_doubles_with_aligned_corners() -> None:
    upward = UpBlock(1, 1).eval()
    with torch.no_grad():
        convolution = upward.unit[0]
        convolution.weight.zero_()
        convolution.weight[0, 0, 1, 1] = 1  # lets the enlarged picture through
        convolution.bias.zero_()

        enlarged = upward(torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]]))

    # With aligned corners four samples over [0, 3] are exactly 0, 1, 2, 3.
    expected = torch.arange(4.0) + 2 * torch.arange(4.0)[:, None]
    torch.testing.assert_close(enlarged[0, 0], expected, atol=1e-4, rtol=0)


def test_initial_weights_have_the_published_distribution() -> None:
    network = conv_stage(32, 64, 128)

    initialise(network, torch.Generator().manual_seed(0))

    network.requires_grad_(False)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            assert float(part.weight.mean()) == pytest.approx(0, abs=5e-4)
            assert float(part.weight.std()) == pytest.approx(0.02, rel=0.03)
            assert part.bias is not None
            bound = 1 / math.sqrt(9 * part.in_channels)
            assert 0.8 * bound < float(part.bias.abs().max()) <= bound
            assert float(part.bias.std()) == pytest.approx(bound / math.sqrt(3), rel=0.2)
        elif isinstance(part, nn.BatchNorm2d):
            assert float(part.weight.mean()) == pytest.approx(1, abs=0.01)
            assert float(part.weight.std()) == pytest.approx(0.02, rel=0.3)
            assert not part.bias.any()


def test_initialising_sets_every_parameter_and_buffer() -> None:
    first, second = conv_stage(3, 4, 5), conv_stage(3, 4, 5)
    for network, rubbish in ((first, math.nan), (second, 7.0)):
        with torch.no_grad():
            for name, value in network.state_dict().items():
                value.fill_(3 if name.endswith("num_batches_tracked") else rubbish)
        initialise(network, torch.Generator().manual_seed(5))

    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not first[0][1].running_mean.any()
    assert first[0][1].running_var.tolist() == [1.0] * 4
    assert int(first[0][1].num_batches_tracked) == 0
