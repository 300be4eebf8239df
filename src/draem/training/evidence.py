"""What distances are usual, and how far simulated anomalies show each kind of them to be trusted.

Every distance here is cross-fitted; see `training/pretrained.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from draem.inspection.torch_scoring import anomaly_maps, anomaly_scores
from draem.networks.pretrained import PretrainedDraem, low_level, positive_log

_BATCH = 8
_COMMON = 0.3
"""Share of the deviation over all places that is added to a place's own."""
_LEAST_DEVIATION = 1e-4
_ANOMALOUS = 0.5
"""Cells of which an anomaly covers more are anomalous; cells that it only touches are neither."""
_CELLS = 200_000
_STEPS = 200
_STEP_SIZE = 0.05
_EVEN = 0.05
"""Weight of the penalty on weights that leave their shares: simulated anomalies are finer than most
real ones."""
_LEAST_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class SimulatedDistances:
    """What was measured of images with simulated anomalies.

    Attributes:
        distances: (images, memories, height, width).
        covered: (images, height, width), the share of each cell that is anomalous.
        steps: Batches of images.
    """

    distances: Tensor
    covered: Tensor
    steps: int


def describe_normal(network: PretrainedDraem, normal: Tensor, *, by_place: bool) -> None:
    """Set what distances are usual, at each place and anywhere.

    Args:
        network: Changed in place.
        normal: (images, memories, height, width) distances of normal images.
        by_place: Whether the same place means the same in all images.
    """
    network.usual_level.copy_(low_level(normal).median(0).values)
    anywhere = normal.transpose(0, 1).flatten(1)
    mean, deviation = (part[:, None, None] for part in (anywhere.mean(1), anywhere.std(1)))
    deviation = deviation.clamp_min(_LEAST_DEVIATION)
    means, deviations = mean.expand(normal.shape[1:]), deviation.expand(normal.shape[1:])
    here, spread = means, deviations
    if by_place and len(normal) > 1:
        here = _smoothed(normal.mean(0))
        spread = _smoothed(normal.std(0)) + _COMMON * deviation
    network.means.copy_(torch.cat((here, means)))
    network.deviations.copy_(torch.cat((spread, deviations)))
    # Evidence of each kind has the same spread over normal images.
    evidence = network.evidence(normal).transpose(0, 1).flatten(1)
    network.deviations.mul_(evidence.std(1).clamp_min(_LEAST_DEVIATION)[:, None, None])


def fit_discriminator(
    network: PretrainedDraem,
    normal: Tensor,
    simulated: SimulatedDistances,
    shares: Tensor,
    seed: int,
) -> None:
    """Learn the weights of the kinds of evidence, the slope and the bias.

    Args:
        network: Changed in place; it knows what is usual.
        normal: (images, memories, height, width) distances of normal images.
        simulated: The same of images with simulated anomalies.
        shares: (memories,), how far each is trusted before anything is learned, not negative.
        seed: Decides which cells are looked at.
    """
    inputs, truth = _cells(network, normal, simulated, seed)
    with torch.inference_mode(False), torch.enable_grad():
        inputs, truth = inputs.clone(), truth.clone()  # leave inference mode
        usual = torch.cat((shares, shares)).clamp_min(_LEAST_SHARE).log()
        uneven = torch.zeros(len(inputs), device=inputs.device, requires_grad=True)
        line = torch.tensor([0.5, -2.0], device=inputs.device, requires_grad=True)
        optimizer = torch.optim.Adam([uneven, line], _STEP_SIZE)
        for _ in range(_STEPS):
            evidence = (usual + uneven).softmax(0) @ inputs
            logit = line[0].exp() * positive_log(evidence) + line[1]
            loss = functional.binary_cross_entropy_with_logits(logit, truth)
            loss = loss + _EVEN * uneven.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.weights.copy_((usual + uneven.detach()).softmax(0))
    network.slope.copy_(line[0].detach().exp())
    network.bias.copy_(line[1].detach())


def cross_fitted_scores(
    network: PretrainedDraem,
    normal: Tensor,
    folds: NDArray[np.int64],
    side: int,
    region_of_interest: NDArray[np.bool_] | None = None,
    *,
    by_place: bool,
) -> NDArray[np.float64]:
    """Scores of normal images, from what is usual in the other folds.

    Args:
        network: In the end it knows again what is usual in all images.
        normal: (images, memories, height, width) distances.
        folds: The fold of each image.
        side: Side of the score's mean filter in pixels.
        region_of_interest: (height, width) bool in pixels; None for everything.
        by_place: As in `describe_normal`.

    Returns:
        (images,) in [0, 1].
    """
    scores = np.empty(len(normal))
    for inside, others in each_fold(folds):
        describe_normal(network, normal[others], by_place=by_place)
        scores[inside.numpy()] = _scores(network, normal[inside], side, region_of_interest)
    describe_normal(network, normal, by_place=by_place)
    return scores


def each_fold(folds: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each fold, (images,) bool: which images are in it, and which to learn from for it.

    Those are all others; with a single fold there are none, so it learns from itself.
    """
    names = np.unique(folds)
    for name in names:
        inside = torch.from_numpy(folds == name)
        yield inside, ~inside if len(names) > 1 else inside


def _scores(
    network: PretrainedDraem, normal: Tensor, side: int, roi: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    found = []
    for part in normal.split(_BATCH):
        maps = anomaly_maps(network.mask_logits(part))
        if roi is not None:
            maps = maps * torch.from_numpy(roi).to(maps.device)
        found.append(anomaly_scores(maps, side).cpu())
    return torch.cat(found).double().numpy()


def _cells(
    network: PretrainedDraem, normal: Tensor, simulated: SimulatedDistances, seed: int
) -> tuple[Tensor, Tensor]:
    """A random choice of cells: (kinds of evidence, cells), and 1 where anomalous, (cells,)."""
    clean = torch.zeros(len(normal), *simulated.covered.shape[1:], device=normal.device)
    shares = torch.cat((clean, simulated.covered)).split(_BATCH)
    parts = torch.cat((normal, simulated.distances)).split(_BATCH)
    evidence, labels = [], []
    for part, share in zip(parts, shares, strict=True):
        clear = ((share == 0) | (share > _ANOMALOUS)).flatten()
        evidence.append(network.evidence(part).transpose(0, 1).flatten(1)[:, clear])
        labels.append(share.flatten()[clear] > _ANOMALOUS)
    inputs, truth = torch.cat(evidence, 1), torch.cat(labels).float()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(truth), generator=generator)[:_CELLS].to(normal.device)
    return inputs[:, order], truth[order]


def _smoothed(maps: Tensor) -> Tensor:
    """(memories, height, width), each cell averaged with its neighbours."""
    return functional.avg_pool2d(maps[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
