"""Fit a memory of normal features: whitening, clusters, a subspace per cluster."""

from __future__ import annotations

import torch
from torch import Tensor

from draem.networks.subspaces import Memory, PlaceMemory, SubspaceMemory

_ITERATIONS = 8
_CLUSTERED = 50_000
"""Features that the clusters are found from; more change them little."""
_SHRINKAGE = 0.1
"""A small cluster's covariance is drawn towards this share of that of all features."""
_WHITENING = 0.5
"""Features are divided by this power of their standard deviation: 0 leaves them, 1 whitens them
fully, which makes noise in the last components count as much as everything else."""
_LEAST_VARIANCE = 0.01
"""Added to the variance of each component; a share of their mean variance."""
_VARIANCE_OF_NOTHING = 1e-6
"""Added too, for images without any variance; all features together have about 1."""
_MOST_FEATURES = 150_000
_CHUNK = 8192


def fit_memory(memory: Memory, cells: Tensor, generator: torch.Generator) -> None:
    """Fill in a memory's buffers.

    Args:
        memory: Changed in place.
        cells: (images, height, width, features) of normal images, in float16 or float32, on the
            memory's device; at least one.
        generator: On the CPU; decides which features are taken and where the clusters start.
    """
    if isinstance(memory, PlaceMemory):
        _fit_places(memory, cells, generator)
    elif isinstance(memory, SubspaceMemory):
        flat = cells.flatten(0, 2)
        order = _some(len(flat), generator).to(flat.device)
        _fit_subspaces(memory, flat[order].float(), generator)


def _fit_places(memory: PlaceMemory, cells: Tensor, generator: torch.Generator) -> None:
    usual = torch.zeros_like(cells[0], dtype=torch.float32)
    for image in cells:
        usual += image / len(cells)
    usual = usual.flatten(0, 1)  # (places, features)
    flat = cells.flatten(0, 2)
    order = _some(len(flat), generator).to(flat.device)
    memory.mean.copy_(usual.mean(0))
    memory.whitening.copy_(_whitening(flat[order].float() - usual[order % len(usual)]))
    memory.usual.copy_(memory.whiten(usual))


def _fit_subspaces(memory: SubspaceMemory, features: Tensor, generator: torch.Generator) -> None:
    """Find subspaces of (count, features)."""
    rank = memory.directions.shape[1]
    memory.mean.copy_(features.mean(0))
    memory.whitening.copy_(_whitening(features - memory.mean))
    whitened = memory.whiten(features)
    centres = _clusters(whitened, len(memory.centres), generator)
    nearest = _nearest(whitened, centres)
    whole = _SHRINKAGE * _covariance(whitened)
    covariances = []
    for place in range(len(centres)):
        members = whitened[nearest == place]
        if len(members):
            centres[place] = members.mean(0)
        # As many dimensions as a subspace has need several members each to be trusted.
        trust = len(members) / (len(members) + 4 * rank)
        own = _covariance(members - centres[place])
        covariances.append(trust * own + (1 - trust) * whole)
    directions = torch.linalg.eigh(torch.stack(covariances)).eigenvectors[:, :, -rank:]
    memory.centres.copy_(centres)
    memory.directions.copy_(directions.flip(2).transpose(1, 2))


def explained_by_place(cells: Tensor) -> float:
    """The share of the features' variance that their places explain.

    Args:
        cells: (images, height, width, features), of at least two images.

    Returns:
        About 1 if all images are alike, about 0 if a place says nothing.
    """
    sums = torch.zeros_like(cells[0], dtype=torch.float32)
    squares = torch.zeros_like(sums)
    for image in cells:
        sums += image
        squares += image.float().square()
    usual, count = sums / len(cells), len(cells)
    total = (squares / count).mean((0, 1)) - usual.mean((0, 1)).square()
    within = ((squares / count).mean((0, 1)) - usual.square().mean((0, 1))) * count / (count - 1)
    return 1 - (within.sum() / total.sum().clamp_min(torch.finfo(total.dtype).tiny)).item()


def _whitening(centred: Tensor) -> Tensor:
    """(features, features), what (count, features) with mean 0 are multiplied by."""
    variances, components = torch.linalg.eigh(_covariance(centred))
    variances = variances.clamp_min(0)
    variances = variances + _LEAST_VARIANCE * variances.mean() + _VARIANCE_OF_NOTHING
    return components * variances.pow(-_WHITENING / 2)


def _some(count: int, generator: torch.Generator) -> Tensor:
    """The places of a random choice of features."""
    return torch.randperm(count, generator=generator)[:_MOST_FEATURES]


def _covariance(centred: Tensor) -> Tensor:
    """(features, features) of (count, features) with mean 0; zeros if there are none."""
    return centred.T @ centred / max(1, len(centred) - 1)


def _clusters(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Centres of clusters by Lloyd's algorithm, here because it must run on the GPU too."""
    order = torch.randperm(len(features), generator=generator)[:_CLUSTERED].to(features.device)
    sample = features[order]
    # With fewer features than clusters some centres are the same.
    centres = sample[torch.arange(count, device=sample.device) % len(sample)].clone()
    for _ in range(_ITERATIONS):
        nearest = _nearest(sample, centres)
        members = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, sample)
        some = members > 0
        centres[some] = sums[some] / members[some, None]
    return centres


def _nearest(features: Tensor, centres: Tensor) -> Tensor:
    length = centres.square().sum(1)
    parts = (length - 2 * (part @ centres.T) for part in features.split(_CHUNK))
    return torch.cat([part.argmin(1) for part in parts])
