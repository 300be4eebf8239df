from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draem.networks.subspaces import PlaceMemory, SubspaceMemory


def memory(seed: int = 0, features: int = 7, count: int = 4, rank: int = 2) -> SubspaceMemory:
    generator = torch.Generator().manual_seed(seed)
    made = SubspaceMemory(features, count, rank)
    made.mean.copy_(torch.randn(features, generator=generator))
    made.whitening.copy_(torch.randn(features, features, generator=generator))
    made.centres.copy_(torch.randn(count, features, generator=generator))
    for place in range(count):
        directions = torch.linalg.qr(torch.randn(features, rank, generator=generator)).Q
        made.directions[place] = directions.T
    return made


def reference(made: SubspaceMemory, whitened: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project on every subspace and take the nearest."""
    found = []
    for vector in whitened:
        candidates = []
        for centre, directions in zip(
            made.centres.double().numpy(), made.directions.double().numpy(), strict=True
        ):
            candidates.append(centre + (vector - centre) @ directions.T @ directions)
        found.append(min(candidates, key=lambda point: np.linalg.norm(vector - point)))
    return np.array(found)


def test_projects_on_the_nearest_subspace() -> None:
    made = memory()
    whitened = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    expected = reference(made, whitened.double().numpy())
    np.testing.assert_allclose(made(whitened[None])[0].numpy(), expected, atol=1e-5)


def test_seeks_by_leading_directions_and_projects_on_all() -> None:
    made = memory(count=1, rank=6)
    whitened = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    expected = reference(made, whitened.double().numpy())
    np.testing.assert_allclose(made(whitened[None])[0].numpy(), expected, atol=1e-5)


def test_what_is_on_a_subspace_is_its_own_counterpart() -> None:
    made = memory()
    whitened = (made.centres[2] + torch.tensor([0.3, -0.2]) @ made.directions[2])[None, None]
    torch.testing.assert_close(made(whitened), whitened, atol=1e-5, rtol=0)


def test_whitens_about_the_mean() -> None:
    made = memory()
    expected = torch.stack((torch.zeros(7), made.whitening[3]))
    features = torch.stack((made.mean, made.mean + torch.eye(7)[3]))
    torch.testing.assert_close(made.whiten(features), expected, atol=1e-6, rtol=0)


def test_each_place_has_its_counterpart_in_every_image() -> None:
    made = PlaceMemory(3, 4)
    made.usual.copy_(torch.arange(12.0).view(4, 3))
    found = made(torch.zeros(2, 4, 3))
    assert torch.equal(found[0], made.usual)
    assert torch.equal(found[1], made.usual)
