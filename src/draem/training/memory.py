"""Fit a memory of normal features: principal components, clusters, a subspace per cluster."""

from __future__ import annotations

import torch
from torch import Tensor

from draem.networks.subspaces import SubspaceMemory

_ITERATIONS = 8
_CLUSTERED = 50_000
"""Features that the clusters are found from; more change them little."""
_SHRINKAGE = 0.1
"""A small cluster's covariance is drawn towards this share of that of all features."""
_CHUNK = 8192


def fit_memory(memory: SubspaceMemory, features: Tensor, generator: torch.Generator) -> None:
    """Fill in a memory's buffers.

    Args:
        memory: Changed in place.
        features: (count, features) of normal images, on the memory's device; at least one.
        generator: On the CPU; decides where the clusters start.
    """
    mean = features.mean(0)
    centred = features - mean
    projected, rank = len(memory.components), memory.directions.shape[1]
    principal = torch.linalg.eigh(_covariance(centred)).eigenvectors[:, -projected:]
    components = principal.T.contiguous()
    inner = centred @ components.T
    centres = _clusters(inner, len(memory.centres), generator)
    nearest = _nearest(inner, centres)
    whole = _SHRINKAGE * _covariance(inner)
    covariances = []
    for place in range(len(centres)):
        members = inner[nearest == place]
        if len(members):
            centres[place] = members.mean(0)
        # As many dimensions as a subspace has need several members each to be trusted.
        trust = len(members) / (len(members) + 4 * rank)
        own = _covariance(members - centres[place])
        covariances.append(trust * own + (1 - trust) * whole)
    directions = torch.linalg.eigh(torch.stack(covariances)).eigenvectors[:, :, -rank:]
    memory.mean.copy_(mean)
    memory.components.copy_(components)
    memory.centres.copy_(centres)
    memory.directions.copy_(directions.transpose(1, 2))


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
