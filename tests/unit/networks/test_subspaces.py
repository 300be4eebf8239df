from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draem.networks.subspaces import SubspaceMemory


def memory(seed: int = 0, features: int = 7, projected: int = 5, count: int = 4) -> SubspaceMemory:
    generator = torch.Generator().manual_seed(seed)
    made = SubspaceMemory(features, projected, count, 2)
    made.mean.copy_(torch.randn(features, generator=generator))
    basis = torch.linalg.qr(torch.randn(features, projected, generator=generator)).Q
    made.components.copy_(basis.T)
    made.centres.copy_(torch.randn(count, projected, generator=generator))
    for place in range(count):
        directions = torch.linalg.qr(torch.randn(projected, 2, generator=generator)).Q
        made.directions[place] = directions.T
    return made


def reference(made: SubspaceMemory, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project on every subspace, in the space of the features, and take the nearest."""
    found = []
    basis = made.components.double().numpy()
    mean = made.mean.double().numpy()
    for vector in features:
        candidates = []
        for centre, directions in zip(
            made.centres.double().numpy(), made.directions.double().numpy(), strict=True
        ):
            origin = mean + centre @ basis
            axes = directions @ basis
            candidates.append(origin + (vector - origin) @ axes.T @ axes)
        found.append(min(candidates, key=lambda point: np.linalg.norm(vector - point)))
    return np.array(found)


def test_projects_on_the_nearest_subspace() -> None:
    made = memory()
    features = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    expected = reference(made, features.double().numpy())
    np.testing.assert_allclose(made(features).numpy(), expected, atol=1e-5)


def test_what_lies_on_a_subspace_is_its_own_counterpart() -> None:
    made = memory()
    inner = made.centres[2] + torch.tensor([0.3, -0.2]) @ made.directions[2]
    features = (made.mean + inner @ made.components)[None]
    torch.testing.assert_close(made(features), features, atol=1e-5, rtol=0)


def test_what_lies_outside_the_components_has_no_counterpart() -> None:
    made = memory()
    outside = torch.linalg.svd(made.components).Vh[-1]
    inside = (made.mean + made.centres[0] @ made.components)[None]
    torch.testing.assert_close(made(inside + 3 * outside), inside, atol=1e-4, rtol=0)
