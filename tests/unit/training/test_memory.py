from __future__ import annotations

import torch
from torch import Tensor

from draem.networks.subspaces import SubspaceMemory
from draem.training.memory import fit_memory


def planes(count: int = 400) -> Tensor:
    """Points on two planes of six dimensions, far apart."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(2, count, 2, generator=generator)
    axes = torch.linalg.qr(torch.randn(2, 6, 2, generator=generator)).Q
    points = flat @ axes.transpose(1, 2)
    points[1, :, 0] += 5
    return points.flatten(0, 1)


def fitted(features: Tensor, subspaces: int = 2, rank: int = 2, seed: int = 0) -> SubspaceMemory:
    memory = SubspaceMemory(features.shape[1], features.shape[1], subspaces, rank)
    fit_memory(memory, features, torch.Generator().manual_seed(seed))
    return memory


def residual(memory: SubspaceMemory, features: Tensor) -> Tensor:
    return (features - memory(features)).norm(dim=1)


def test_finds_planes() -> None:
    features = planes()
    memory = fitted(features, subspaces=4)
    # New points of the planes, between those that were seen.
    between = (features[:300] + features[1:301]) / 2
    assert residual(memory, between).quantile(0.9) < 0.05 * features.std()
    assert residual(memory, between + torch.tensor([0, 0, 0, 0, 0, 9.0])).min() > 0.5


def test_directions_are_orthonormal() -> None:
    memory = fitted(planes(), subspaces=3)
    products = memory.directions @ memory.directions.transpose(1, 2)
    torch.testing.assert_close(products, torch.eye(2).expand(3, 2, 2), atol=1e-4, rtol=0)


def test_the_seed_decides() -> None:
    features = planes() + 0.3 * torch.randn(800, 6, generator=torch.Generator().manual_seed(3))
    first, again, other = (fitted(features, 8, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first.centres, again.centres)
    assert not torch.equal(first.centres, other.centres)


def test_leaves_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    fitted(planes())
    assert torch.equal(before, torch.get_rng_state())


def test_takes_fewer_features_than_subspaces() -> None:
    features = planes()[:3]
    memory = fitted(features, subspaces=8)
    assert torch.isfinite(memory(features)).all()
    assert residual(memory, features).max() < 1e-2 * features.norm()


def test_takes_features_that_are_all_the_same() -> None:
    features = torch.ones(20, 6)
    torch.testing.assert_close(fitted(features)(features), features)
