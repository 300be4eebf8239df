from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from draem.inspection.torch_runtime import fold_batch_norm
from draem.networks.compact import (
    CompactDiscriminative,
    CompactReconstructive,
    initialise_compact,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lively(network: nn.Module, seed: int = 1) -> nn.Module:
    """Weights and batch statistics of a network that has learned something."""
    initialise_compact(network, seeded(seed))
    generator = seeded(seed)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.normal_(0, 0.5, generator=generator)
                part.running_mean.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return network.eval()


def pictures(count: int, height: int, width: int, seed: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=seeded(seed))


def test_parameter_counts_of_the_preset() -> None:
    with torch.device("meta"):
        networks = CompactReconstructive(32), CompactDiscriminative(16)

    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    # Convolutions without bias, two values a channel for every normalisation, a head with bias.
    reconstructive = (
        9 * (48 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
        + (128 * 64 + 9 * 64 * 64 + 64 * 32 + 9 * 2 * 32 * 32)
        + 2 * (2 * (32 + 64 + 128) + 64 + 64 + 32 + 2 * 32)
        + (9 * 32 * 48 + 48)
    )
    assert counts[0] == reconstructive
    assert sum(counts) == 1_393_656


@pytest.mark.parametrize("size", [(16, 16), (32, 80), (96, 48)])
def test_the_restoration_has_the_size_of_the_image(size: tuple[int, int]) -> None:
    output = CompactReconstructive(2).eval()(pictures(2, *size))

    assert output.shape == (2, 3, *size)


@pytest.mark.parametrize("size", [(32, 32), (32, 96), (64, 32)])
def test_two_logits_a_pixel(size: tuple[int, int]) -> None:
    images = pictures(2, *size)

    assert CompactDiscriminative(2).eval()(images, images).shape == (2, 2, *size)


def test_everything_passes_through_the_bottleneck() -> None:
    network = lively(CompactReconstructive(4))
    first, second = pictures(1, 64, 64, seed=2), pictures(1, 64, 64, seed=3)
    with torch.no_grad():
        difference = network(first) - network(second)
        handle = network.encoder.register_forward_hook(
            lambda module, inputs, output: torch.zeros_like(output)
        )
        blocked = network(first) - network(second)
        handle.remove()

    assert float(difference.abs().max()) > 1e-3
    assert float(blocked.abs().max()) == 0


def test_the_bottleneck_has_four_widths_at_a_sixteenth_of_the_size() -> None:
    network, shapes = CompactReconstructive(2).eval(), []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        shapes.append(tuple(output.shape))

    network.encoder.register_forward_hook(note)

    network(pictures(1, 64, 32))

    assert shapes == [(1, 8, 4, 2)]


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("half", ["from below", "from the encoder"])
def test_every_level_hands_on_both_what_it_sees_and_what_is_below(level: int, half: str) -> None:
    network = lively(CompactDiscriminative(4))
    images, reconstruction = pictures(1, 64, 64, seed=4), pictures(1, 64, 64, seed=5)

    def silence(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        below, seen = inputs[0].chunk(2, dim=1)
        kept = (0 * below, seen) if half == "from below" else (below, 0 * seen)
        return (torch.cat(kept, dim=1),)

    with torch.no_grad():
        expected = network(reconstruction, images)
        handle = network.merges[level].register_forward_pre_hook(silence)
        silenced = network(reconstruction, images)
        handle.remove()

    assert float((silenced - expected).abs().max()) > 1e-3


def test_the_levels_of_the_discriminative_network() -> None:
    network, shapes = CompactDiscriminative(2).eval(), []
    for stage in network.stages:
        stage.register_forward_hook(
            lambda module, inputs, output: shapes.append(tuple(output.shape))
        )

    network(pictures(1, 64, 32), pictures(1, 64, 32))

    assert shapes == [(1, 2, 32, 16), (1, 4, 16, 8), (1, 8, 8, 4), (1, 16, 4, 2), (1, 16, 2, 1)]


def test_the_reconstruction_comes_first() -> None:
    network, seen = CompactDiscriminative(2).eval(), []
    network.stages[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    network(torch.full((1, 3, 32, 32), 0.25), torch.full((1, 3, 32, 32), 0.75))

    assert seen[0][0, :, 0, 0].tolist() == [0.25] * 12 + [0.75] * 12


def test_blocks_of_pixels_come_back_to_their_places() -> None:
    # With everything but the centre of the head's kernel 0, each pixel of a block is its own
    # channel: channel 16c + 4r + q is the colour c at row r and column q of the block.
    network = CompactReconstructive(2).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.arange(48.0))
        output = network(pictures(1, 16, 16))

    block = torch.arange(48.0).reshape(3, 4, 4)
    assert torch.equal(output[0], block.repeat(1, 4, 4))


@pytest.mark.parametrize("kind", [CompactReconstructive, CompactDiscriminative])
def test_gradients_reach_every_parameter(
    kind: type[CompactReconstructive | CompactDiscriminative],
) -> None:
    network = lively(kind(4)).train()
    images = pictures(4, 64, 64)
    inputs = (images, images.flip(0)) if kind is CompactDiscriminative else (images,)

    (network(*inputs) - 0.3).square().mean().backward()

    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [CompactReconstructive, CompactDiscriminative])
def test_folding_the_normalisations_keeps_the_output(
    kind: type[CompactReconstructive | CompactDiscriminative],
    seed: int,
    dtype: torch.dtype,
    atol: float,
) -> None:
    network = lively(kind(4), seed).to(dtype)
    folded = copy.deepcopy(network)
    fold_batch_norm(folded)
    images = pictures(2, 64, 32, seed).to(dtype)
    inputs = (images, images.flip(0)) if kind is CompactDiscriminative else (images,)

    with torch.no_grad():
        expected, found = network(*inputs), folded(*inputs)

    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert float(expected.std()) > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_only_the_heads_have_a_bias() -> None:
    for network in (CompactReconstructive(2), CompactDiscriminative(2)):
        biased = [
            name
            for name, part in network.named_modules()
            if isinstance(part, nn.Conv2d) and part.bias is not None
        ]
        assert biased == ["head"]


@pytest.mark.parametrize("kind", [CompactReconstructive, CompactDiscriminative])
def test_initial_weights_keep_the_variance(
    kind: type[CompactReconstructive | CompactDiscriminative],
) -> None:
    network = kind(32)

    initialise_compact(network, seeded(0))

    network.requires_grad_(False)
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d):
            inputs = part.in_channels * part.kernel_size[0] * part.kernel_size[1]
            spread = math.sqrt(2 / inputs) * (0.1 if name == "head" else 1)
            # The spread of n draws is known to about 1 / sqrt(2n).
            close = 5 / math.sqrt(2 * part.weight.numel())
            assert float(part.weight.std()) == pytest.approx(spread, rel=close), name
            middle = 5 * spread / math.sqrt(part.weight.numel())
            assert float(part.weight.mean()) == pytest.approx(0, abs=middle), name
            assert part.bias is None or not part.bias.any()
        elif isinstance(part, nn.BatchNorm2d):
            assert bool((part.weight == 1).all())
            assert not part.bias.any()


def test_the_first_outputs_are_small() -> None:
    network = CompactReconstructive(32).train()
    initialise_compact(network, seeded(0))

    with torch.no_grad():
        output = network(pictures(4, 64, 64))

    assert 1e-3 < float(output.square().mean().sqrt()) < 0.2


@pytest.mark.parametrize("kind", [CompactReconstructive, CompactDiscriminative])
def test_initialising_sets_every_parameter_and_buffer(
    kind: type[CompactReconstructive | CompactDiscriminative],
) -> None:
    first, second, other = kind(2), kind(2), kind(2)
    for network, rubbish, seed in ((first, math.nan, 5), (second, 7.0, 5), (other, 7.0, 6)):
        with torch.no_grad():
            for name, value in network.state_dict().items():
                value.fill_(3 if name.endswith("num_batches_tracked") else rubbish)
        initialise_compact(network, seeded(seed))

    ours, theirs, others = (network.state_dict() for network in (first, second, other))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name])
        if value.ndim == 4:
            assert not torch.equal(value, others[name])
        if name.endswith("running_mean"):
            assert not value.any()
        elif name.endswith("running_var"):
            assert bool((value == 1).all())
        elif name.endswith("num_batches_tracked"):
            assert int(value) == 0
