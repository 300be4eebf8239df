from __future__ import annotations

import pytest
import torch
from torch import Tensor

from draem.errors import ImageSizeError
from draem.networks.compact import CompactDiscriminative, CompactReconstructive
from draem.networks.discriminative import DiscriminativeSubNetwork
from draem.networks.joint import DraemOutput, check_image_size
from draem.networks.model import Draem
from draem.networks.reconstructive import ReconstructiveSubNetwork
from tests.support import network_config, small_draem

ARCHITECTURES = pytest.mark.parametrize("architecture", ["published", "compact"])


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        model = Draem()

    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == 69_048_579 + 28_374_146


def test_parameter_count_of_the_preset_compact() -> None:
    with torch.device("meta"):
        model = Draem(network_config(32, 16, "compact"))

    assert sum(parameter.numel() for parameter in model.parameters()) == 1_393_656


def test_one_scale_is_the_default() -> None:
    images = torch.rand(1, 3, 64, 32)
    first, second = (small_draem(2, 2, *rest).eval() for rest in ((), ("published", 1)))

    assert torch.equal(first(images).mask_logits, second(images).mask_logits)


@ARCHITECTURES
def test_logits_are_the_mean_over_the_scales(architecture: str) -> None:
    model = small_draem(2, 2, architecture, 3).eval()
    single = small_draem(2, 2, architecture).eval()
    images = torch.rand(2, 3, 128, 256)

    output = model(images)

    expected = single(images).mask_logits
    for shrink in (2, 4):
        area = torch.nn.functional.interpolate(images, scale_factor=1 / shrink, mode="area")
        logits = single(area).mask_logits
        expected = expected + torch.nn.functional.interpolate(
            logits, scale_factor=shrink, mode="bilinear", align_corners=False
        )
    torch.testing.assert_close(output.mask_logits, expected / 3, atol=1e-5, rtol=0)
    assert torch.equal(output.reconstruction, single(images).reconstruction)


def test_training_sees_one_scale() -> None:
    images = torch.rand(2, 3, 64, 64)
    model, single = (small_draem(2, 2, "compact", scales).train() for scales in (2, 1))

    assert torch.equal(model(images).mask_logits, single(images).mask_logits)


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (96, 160)])
def test_a_shrunken_image_that_the_strides_do_not_divide(size: tuple[int, int]) -> None:
    model, single = (small_draem(2, 2, "compact", scales).eval() for scales in (2, 1))
    images = torch.rand(1, 3, *size)

    logits = model(images).mask_logits

    assert logits.shape == (1, 2, *size)
    half = torch.nn.functional.avg_pool2d(images, 2)
    height, width = half.shape[2:]
    padded = torch.nn.functional.pad(half, (0, -width % 32, 0, -height % 32), mode="replicate")
    coarse = single(padded).mask_logits[..., :height, :width]
    coarse = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    expected = (single(images).mask_logits + coarse) / 2
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_the_published_shape_is_the_default() -> None:
    for model in (Draem(network_config(2, 2)), small_draem(2, 2)):
        assert isinstance(model.reconstructive, ReconstructiveSubNetwork)
        assert isinstance(model.discriminative, DiscriminativeSubNetwork)
    compact = small_draem(2, 2, "compact")
    assert isinstance(compact.reconstructive, CompactReconstructive)
    assert isinstance(compact.discriminative, CompactDiscriminative)


@ARCHITECTURES
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (64, 32), (32, 160)])
def test_output_is_the_same_named_pair_in_every_mode(
    architecture: str, training: bool, size: tuple[int, int]
) -> None:
    model = small_draem(2, 2, architecture).train(training)

    output = model(torch.rand(2, 3, *size))

    assert isinstance(output, DraemOutput)
    assert output.reconstruction.shape == (2, 3, *size)
    assert output.mask_logits.shape == (2, 2, *size)


@ARCHITECTURES
def test_the_discriminator_sees_reconstruction_and_image(architecture: str) -> None:
    model = small_draem(2, 2, architecture).eval()
    images = torch.rand(1, 3, 32, 32)

    with torch.no_grad():
        output = model(images)
        reconstruction = model.reconstructive(images)

        assert torch.equal(output.reconstruction, reconstruction)
        assert torch.equal(output.mask_logits, model.discriminative(reconstruction, images))


@ARCHITECTURES
def test_gradients_reach_both_networks_from_the_mask(architecture: str) -> None:
    model = small_draem(2, 2, architecture)

    model(torch.rand(2, 3, 32, 32)).mask_logits.square().sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    for part in (model.reconstructive, model.discriminative):
        assert any(p.grad.abs().sum() > 0 for p in part.parameters())


@ARCHITECTURES
def test_the_seed_decides_the_weights(architecture: str) -> None:
    first, again, other = (
        small_draem(3, 2, architecture, seed=seed).state_dict() for seed in (1, 1, 2)
    )

    assert same(first, again)
    assert not any(
        torch.equal(first[name], other[name])
        for name in first
        if name.endswith("weight") and (architecture == "published" or first[name].ndim > 1)
    )
    assert all(bool(torch.isfinite(value).all()) for value in first.values())


@ARCHITECTURES
def test_building_neither_reads_nor_changes_global_random_state(architecture: str) -> None:
    first = small_draem(2, 2, architecture).state_dict()
    torch.manual_seed(99)
    before = torch.random.get_rng_state()

    second = small_draem(2, 2, architecture).state_dict()

    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(first, second)


@ARCHITECTURES
def test_built_models_are_on_the_cpu_and_can_learn(architecture: str) -> None:
    model = small_draem(2, 2, architecture)

    assert model.training
    assert all(p.device.type == "cpu" and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("size", [(32, 32), (256, 256), (64, 2048)])
def test_multiples_of_32_are_taken(size: tuple[int, int]) -> None:
    check_image_size(*size)


@pytest.mark.parametrize(
    ("size", "hint"),
    [
        ((256, 250), "Use 256x256 or 256x224."),
        ((300, 256), "Use 288x256 or 320x256."),
        ((33, 95), "Use 32x96 or 32x64 or 64x96."),
        ((16, 16), "Use 32x32."),
        ((0, 64), "Use 32x64."),
        ((8, 40), "Use 32x32 or 32x64."),
    ],
)
def test_other_sizes_are_refused_with_the_nearest_that_fit(
    size: tuple[int, int], hint: str
) -> None:
    with pytest.raises(ImageSizeError) as caught:
        check_image_size(*size)

    assert str(caught.value).endswith(hint)
    assert f"Found {size[0]}x{size[1]} (height x width)" in str(caught.value)


@ARCHITECTURES
def test_the_model_refuses_sizes_that_do_not_fit(architecture: str) -> None:
    with pytest.raises(ImageSizeError, match="Use 32x64 or 32x32"):
        small_draem(2, 2, architecture)(torch.rand(1, 3, 32, 48))


@ARCHITECTURES
def test_without_a_reconstructive_network_the_other_is_given_the_image_twice(
    architecture: str,
) -> None:
    model = small_draem(0, 2, architecture).eval()
    images = torch.rand(1, 3, 32, 64)

    with torch.no_grad():
        output = model(images)

    assert torch.equal(output.reconstruction, images)
    assert torch.equal(output.mask_logits, model.discriminative(images, images))
    assert not list(model.reconstructive.parameters())
