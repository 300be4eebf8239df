from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_ssim
from torch import Tensor
from torch.nn import functional

from draem.networks.joint import DraemOutput
from draem.simulation.simulator import SimulatedBatch
from draem.training.losses import (
    Losses,
    LossWeights,
    draem_losses,
    focal_loss,
    structural_similarity,
)
from tests.reference.focal import slow_focal
from tests.reference.ssim import slow_ssim


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noisy_pair(*shape: int, noise: float = 0.15) -> tuple[Tensor, Tensor]:
    generator = seeded(0)
    first = functional.avg_pool2d(torch.rand(shape, generator=generator), 3, 1, padding=1)
    second = first + noise * torch.randn(shape, generator=generator)
    return first, second.clamp(0, 1)


def case(dtype: torch.dtype = torch.float32) -> tuple[DraemOutput, SimulatedBatch]:
    target, reconstruction = noisy_pair(2, 3, 16, 24)
    generator = seeded(1)
    logits = 2 * torch.randn(2, 2, 16, 24, generator=generator)
    mask = (torch.rand(2, 1, 16, 24, generator=generator) > 0.7).float()
    batch = SimulatedBatch(target, target, mask, torch.ones(2))
    return DraemOutput(reconstruction.to(dtype), logits.to(dtype)), batch


def test_ssim_follows_the_definition() -> None:
    first, second = noisy_pair(2, 3, 14, 19)

    similarity = structural_similarity(first, second)

    assert similarity.shape == first.shape
    for number, channel in itertools.product(range(2), range(3)):
        expected = slow_ssim(first[number, channel].numpy(), second[number, channel].numpy())
        np.testing.assert_allclose(similarity[number, channel].numpy(), expected, atol=1e-4)


def test_ssim_is_scikit_images_away_from_the_border() -> None:
    first, second = noisy_pair(1, 3, 40, 32)

    similarity = structural_similarity(first, second)[0, :, 5:-5, 5:-5]

    _, expected = skimage_ssim(
        first[0].double().numpy(),
        second[0].double().numpy(),
        channel_axis=0,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    np.testing.assert_allclose(similarity.numpy(), expected[:, 5:-5, 5:-5], atol=1e-4)


def test_ssim_of_equal_images_is_one() -> None:
    first, _ = noisy_pair(1, 3, 20, 20)

    for images in (first, torch.zeros_like(first), torch.ones_like(first)):
        similarity = structural_similarity(images, images)
        torch.testing.assert_close(similarity, torch.ones_like(first), atol=1e-4, rtol=0)


def test_ssim_is_symmetric_and_falls_with_noise() -> None:
    means = []
    for noise in (0.02, 0.1, 0.5):
        first, second = noisy_pair(1, 3, 32, 32, noise=noise)
        similarity = structural_similarity(first, second)
        torch.testing.assert_close(similarity, structural_similarity(second, first))
        assert float(similarity.abs().max()) <= 1 + 1e-4
        means.append(float(similarity.mean()))

    assert means == sorted(means, reverse=True)
    assert means[0] > 0.8 > 0.3 > means[-1]


def test_ssim_of_opposites_is_minus_one() -> None:
    # A fine chessboard and its negative: equal means and variances, opposite covariance.
    board = (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).float().view(1, 1, 32, 32)

    middle = structural_similarity(board, 1 - board)[0, 0, 5:-5, 5:-5]

    torch.testing.assert_close(middle, torch.full_like(middle, -1), atol=0.01, rtol=0)


def test_gradients_of_ssim_are_those_of_finite_differences() -> None:
    first, second = (image.double() for image in noisy_pair(1, 2, 9, 6))

    assert torch.autograd.gradcheck(structural_similarity, (first.requires_grad_(), second))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_focal_loss_follows_the_definition(gamma: float) -> None:
    logits = 3 * torch.randn(2, 2, 5, 7, generator=seeded(2))
    mask = (torch.rand(2, 1, 5, 7, generator=seeded(3)) > 0.6).float()

    loss = focal_loss(logits, mask, gamma)

    assert float(loss) == pytest.approx(slow_focal(logits.numpy(), mask.numpy(), gamma), rel=1e-5)


def test_focal_loss_with_gamma_0_is_cross_entropy() -> None:
    logits = 5 * torch.randn(2, 2, 8, 8, generator=seeded(4))
    mask = (torch.rand(2, 1, 8, 8, generator=seeded(5)) > 0.5).float()

    torch.testing.assert_close(
        focal_loss(logits, mask, 0.0), functional.cross_entropy(logits, mask[:, 0].long())
    )


def test_focal_loss_of_undecided_pixels_is_known() -> None:
    # p = 1/2 everywhere: (1/2)^2 * log 2, whatever the mask.
    for mask in (torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 3, 3)):
        loss = focal_loss(torch.zeros(1, 2, 3, 3), mask)
        assert float(loss) == pytest.approx(0.25 * np.log(2))


def test_focal_loss_weighs_both_classes_alike() -> None:
    logits = torch.randn(1, 2, 6, 6, generator=seeded(6))
    mask = (torch.rand(1, 1, 6, 6, generator=seeded(7)) > 0.5).float()

    torch.testing.assert_close(focal_loss(logits, mask), focal_loss(logits.flip(1), 1 - mask))


def test_marking_everything_is_punished_on_normal_images() -> None:
    everything = torch.tensor([-6.0, 6.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    normal = torch.zeros(1, 1, 4, 4)

    assert float(focal_loss(everything, normal)) > 10
    assert float(focal_loss(-everything, normal)) < 1e-6


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [0.0, 60.0, 1e4, 1e30])
@pytest.mark.parametrize("true_class", [0.0, 1.0])
def test_extreme_logits_have_finite_losses_and_gradients(
    gamma: float, size: float, true_class: float
) -> None:
    logits = torch.tensor([size, -size]).view(1, 2, 1, 1).requires_grad_()

    loss = focal_loss(logits, torch.full((1, 1, 1, 1), true_class), gamma)
    (gradient,) = torch.autograd.grad(loss, logits)

    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())
    if size and true_class:  # a confident error still pulls the right way
        assert gradient.flatten()[0] > 0 > gradient.flatten()[1]


def test_gradients_are_those_of_finite_differences() -> None:
    logits = torch.randn(1, 2, 3, 3, generator=seeded(8), dtype=torch.float64)
    mask = (torch.rand(1, 1, 3, 3, generator=seeded(9)) > 0.5).double()

    assert torch.autograd.gradcheck(
        lambda x: focal_loss(x, mask), logits.requires_grad_(), check_batched_grad=False
    )


@pytest.mark.parametrize(
    "weights", [LossWeights(), LossWeights(0.3, 2.0, 5.0, 1.0), LossWeights(0, 0, 1)]
)
def test_the_total_is_the_weighted_sum_of_the_parts(weights: LossWeights) -> None:
    output, batch = case()

    losses = draem_losses(output, batch, weights)

    reconstruction, target = output.reconstruction, batch.normal_images
    expected = Losses(
        total=weights.l2 * losses.l2 + weights.ssim * losses.ssim + weights.focal * losses.focal,
        l2=((reconstruction - target) ** 2).mean(),
        ssim=1 - structural_similarity(reconstruction, target).mean(),
        focal=focal_loss(output.mask_logits, batch.anomaly_mask, weights.focal_gamma),
    )
    for loss, wanted in zip(losses, expected, strict=True):
        assert loss.shape == ()
        torch.testing.assert_close(loss, wanted)


def test_ssim_of_the_mean_is_that_of_the_channels_mean() -> None:
    output, batch = case()

    losses = draem_losses(output, batch, LossWeights(ssim_of_mean=True))

    expected = np.mean(
        [
            slow_ssim(first.mean(0), second.mean(0))
            for first, second in zip(
                output.reconstruction.numpy(), batch.normal_images.numpy(), strict=True
            )
        ]
    )
    assert float(losses.ssim) == pytest.approx(1 - expected, abs=1e-4)
    of_channels = draem_losses(output, batch, LossWeights())
    assert abs(float(losses.ssim) - float(of_channels.ssim)) > 1e-2
    assert torch.equal(losses.l2, of_channels.l2)
    assert torch.equal(losses.focal, of_channels.focal)
    torch.testing.assert_close(losses.total, losses.l2 + losses.ssim + losses.focal)


def test_ssim_of_the_mean_of_equal_channels_is_that_of_the_channels() -> None:
    output, batch = case()
    output = output._replace(reconstruction=output.reconstruction[:, :1].expand(-1, 3, -1, -1))
    batch = batch._replace(normal_images=batch.normal_images[:, :1].expand(-1, 3, -1, -1))

    of_mean = draem_losses(output, batch, LossWeights(ssim_of_mean=True))
    of_channels = draem_losses(output, batch, LossWeights())

    assert float(of_mean.ssim) > 0.05
    torch.testing.assert_close(of_mean.ssim, of_channels.ssim, atol=1e-5, rtol=0)


def test_the_reconstruction_is_compared_with_the_normal_image() -> None:
    output, batch = case()
    simulated = batch._replace(simulated_images=output.reconstruction)
    perfect = output._replace(reconstruction=batch.normal_images)

    assert float(draem_losses(output, simulated, LossWeights()).l2) > 1e-3
    losses = draem_losses(perfect, batch, LossWeights())
    assert float(losses.l2) == 0
    assert float(losses.ssim) == pytest.approx(0, abs=1e-5)


def test_losses_stay_in_float32_under_autocast() -> None:
    output, batch = case(torch.bfloat16)

    with torch.autocast("cpu", torch.bfloat16):
        losses = draem_losses(output, batch, LossWeights())

    assert all(loss.dtype == torch.float32 for loss in losses)
    widened = DraemOutput(*(part.float() for part in output))
    for loss, wanted in zip(losses, draem_losses(widened, batch, LossWeights()), strict=True):
        assert torch.equal(loss, wanted)


def test_gradients_reach_reconstruction_and_logits() -> None:
    output, batch = case()
    leaves = DraemOutput(*(part.requires_grad_() for part in output))

    draem_losses(leaves, batch, LossWeights()).total.backward()

    for leaf in leaves:
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())
        assert float(leaf.grad.abs().max()) > 0
