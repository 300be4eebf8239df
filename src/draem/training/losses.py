"""DRAEM's losses: squared error and SSIM for the reconstruction, focal loss for the mask.

All are computed in float32, also under autocast.

Source:
    Zavrtanik et al., ICCV 2021, equations 1 to 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from draem.networks.joint import DraemOutput
from draem.simulation.simulator import SimulatedBatch

WINDOW = 11
SIGMA = 1.5


class LossWeights(NamedTuple):
    """Weights of the three losses, the focal loss's gamma, and what SSIM compares.

    With `ssim_of_mean` it compares the means of the channels, which takes a third of the time.
    """

    l2: float = 1.0
    ssim: float = 1.0
    focal: float = 1.0
    focal_gamma: float = 2.0
    ssim_of_mean: bool = False


class Losses(NamedTuple):
    """The losses of a batch, each a scalar float32.

    Attributes:
        total: The weighted sum.
        l2: Mean squared error of the reconstruction.
        ssim: 1 - SSIM of the reconstruction.
        focal: Focal loss of the mask.
    """

    total: Tensor
    l2: Tensor
    ssim: Tensor
    focal: Tensor


def draem_losses(output: DraemOutput, batch: SimulatedBatch, weights: LossWeights) -> Losses:
    """All losses of one batch.

    Args:
        output: What the model made of the simulated images.
        batch: The batch.
        weights: How the losses are added.
    """
    with torch.autocast(output.reconstruction.device.type, enabled=False):
        reconstruction, target = output.reconstruction.float(), batch.normal_images.float()
        l2 = functional.mse_loss(reconstruction, target)
        compared = [reconstruction, target]
        if weights.ssim_of_mean:
            compared = [images.mean(1, keepdim=True) for images in compared]
        ssim = 1 - structural_similarity(*compared).mean()
        focal = focal_loss(output.mask_logits.float(), batch.anomaly_mask, weights.focal_gamma)
        total = weights.l2 * l2 + weights.ssim * ssim + weights.focal * focal
        return Losses(total, l2, ssim, focal)


def focal_loss(mask_logits: Tensor, anomaly_mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross entropy in which easy pixels count less: mean of -(1 - p)^gamma log p.

    p is the probability of the pixel's true class; both classes weigh the same, as published.
    With gamma 0 this is cross entropy.

    Args:
        mask_logits: (batch, 2, height, width) float32.
        anomaly_mask: (batch, 1, height, width), 0 or 1.
        gamma: The focusing parameter, not negative.

    Source:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017. The published code keeps p
        above about 2e-5, which caps the loss near 10.8 a pixel and lets the gradient of pixels
        that are confidently wrong fade. Here neither is capped; for p above 1e-3 the two agree.
    """
    sign = 2 * anomaly_mask[:, 0] - 1  # (batch, height, width), -1 or 1
    margin = (mask_logits[:, 1] - mask_logits[:, 0]) * sign
    # Through logarithms the gradient stays finite where 1 - p underflows, for any gamma.
    easiness = torch.exp(gamma * functional.logsigmoid(-margin))
    return -(easiness * functional.logsigmoid(margin)).mean()


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM at every pixel, with an 11x11 Gaussian window and zeros beyond the border.

    Args:
        first: (batch, channels, height, width) float32, data range 1.
        second: (batch, channels, height, width), as the first.

    Returns:
        (batch, channels, height, width) in [-1, 1].

    Source:
        Wang et al., Image Quality Assessment, IEEE TIP 2004, with the window (sigma 1.5) and the
        zero padding of the published DRAEM code, which however takes a data range of 2 if a value
        of the reconstruction is below -0.5.
    """
    # The two variances only ever appear as their sum, so one map of squares is enough.
    maps = torch.cat((first, second, first * first + second * second, first * second), dim=1)
    blurred: Tensor = _Blurred.apply(maps)  # type: ignore[no-untyped-call]
    mean_1, mean_2, squares, product = blurred.chunk(4, dim=1)
    c1, c2 = 0.01**2, 0.03**2
    product_of_means, squared_means = mean_1 * mean_2, mean_1 * mean_1 + mean_2 * mean_2
    covariance, variances = product - product_of_means, squares - squared_means
    return ((2 * product_of_means + c1) * (2 * covariance + c2)) / (
        (squared_means + c1) * (variances + c2)
    )


class _Blurred(torch.autograd.Function):
    """Maps under SSIM's window.

    The window is symmetric and zeros are beyond the border, so the gradient is blurred in the same
    way, and none of the maps has to be kept for it.
    """

    @staticmethod
    def forward(_ctx: Any, maps: Tensor) -> Tensor:
        return _blur(maps)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _blur(gradients[0])


def _blur(maps: Tensor) -> Tensor:
    count = maps.shape[1]
    offsets = torch.arange(WINDOW, device=maps.device, dtype=maps.dtype) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    window = (window / window.sum()).expand(count, 1, 1, WINDOW)
    if maps.device.type == "cpu":
        # Seven times as fast here in this order; on a GPU the other one has kernels of its own.
        maps = maps.contiguous(memory_format=torch.channels_last)
    along = functional.conv2d(maps, window, padding=(0, WINDOW // 2), groups=count)
    return functional.conv2d(along, window.transpose(2, 3), padding=(WINDOW // 2, 0), groups=count)
