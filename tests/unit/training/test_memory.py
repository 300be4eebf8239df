from __future__ import annotations

import pytest
import torch
from torch import Tensor

from draem.networks.subspaces import PlaceMemory, SubspaceMemory
from draem.training.memory import explained_by_place, fit_memory


def planes(count: int = 400) -> Tensor:
    """Points on two planes of six dimensions, far apart."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(2, count, 2, generator=generator)
    axes = torch.linalg.qr(torch.randn(2, 6, 2, generator=generator)).Q
    points = flat @ axes.transpose(1, 2)
    points[1, :, 0] += 5
    return points.flatten(0, 1)


def fitted(features: Tensor, subspaces: int = 2, rank: int = 2, seed: int = 0) -> SubspaceMemory:
    """A memory of features, (count, features), as if each were an image of one cell."""
    memory = SubspaceMemory(features.shape[1], subspaces, rank)
    fit_memory(memory, features[:, None, None], torch.Generator().manual_seed(seed))
    return memory


def residual(memory: SubspaceMemory, features: Tensor) -> Tensor:
    whitened = memory.whiten(features)
    return (whitened - memory(whitened[None])[0]).norm(dim=1)


def test_finds_planes() -> None:
    features = planes()
    memory = fitted(features, subspaces=4)
    # New points of the planes, between those that were seen.
    between = (features[:300] + features[1:301]) / 2
    assert residual(memory, between).quantile(0.9) < 0.05 * memory.whiten(features).std()
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
    assert torch.isfinite(memory(memory.whiten(features)[None])).all()
    assert residual(memory, features).max() < 1e-2 * memory.whiten(features).norm()


def test_takes_features_that_are_all_the_same() -> None:
    features = torch.ones(20, 6)
    memory = fitted(features)
    assert torch.isfinite(memory.whitening).all()
    assert residual(memory, features).max() == 0


def test_whitens_halfway() -> None:
    generator = torch.Generator().manual_seed(0)
    deviations = torch.tensor([8.0, 2.0, 1.0])
    features = torch.randn(4000, 3, generator=generator) * deviations + 5
    memory = fitted(features)
    whitened = memory.whiten(features)
    # Variances are divided by their own square root; the floor of 1 % of their mean is 0.23.
    floor = 0.01 * deviations.square().mean()
    expected = deviations.square() / (deviations.square() + floor).sqrt()
    found = torch.linalg.eigvalsh(whitened.T.cov()).flip(0)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0)
    assert whitened.mean(0).abs().max() < 1e-3


def cells(place: float, noise: float, images: int = 30) -> Tensor:
    """Features that are the same at each place but for noise."""
    generator = torch.Generator().manual_seed(0)
    usual = place * torch.randn(1, 8, 8, 5, generator=generator)
    return usual + noise * torch.randn(images, 8, 8, 5, generator=generator)


def test_remembers_the_mean_of_each_place() -> None:
    images = cells(1, 0.1)
    memory = PlaceMemory(5, 64)
    fit_memory(memory, images.half(), torch.Generator().manual_seed(0))
    expected = memory.whiten(images.mean(0).flatten(0, 1))
    torch.testing.assert_close(memory(torch.zeros(1, 64, 5))[0], expected, atol=1e-2, rtol=0)
    spread = torch.cat([memory.whiten(image.flatten(0, 1)) - expected for image in images])
    # What varies at a place is whitened halfway: a variance of 0.01 becomes 0.1.
    torch.testing.assert_close(spread.var(0), torch.full((5,), 0.1), rtol=0.15, atol=0)


def test_tells_how_much_a_place_explains() -> None:
    assert explained_by_place(cells(1, 0)) == pytest.approx(1, abs=1e-4)
    assert explained_by_place(cells(0, 1)) == pytest.approx(0, abs=0.02)
    assert explained_by_place(cells(1, 1)) == pytest.approx(0.5, abs=0.1)
    assert explained_by_place(cells(0, 0)) <= 1
