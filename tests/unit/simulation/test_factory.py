from __future__ import annotations

import pytest
import torch

from draem.config import PROFILES, ResolvedSimulationConfig
from draem.datasets.image_source import ImageSource
from draem.simulation.factory import make_simulator, over_images, with_textures
from tests.support import source


def images(count: int, seed: int) -> ImageSource:
    generator = torch.Generator().manual_seed(seed)
    return source(torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
@pytest.mark.parametrize("limited", [False, True])
def test_over_other_images_all_else_stays(profile: ResolvedSimulationConfig, limited: bool) -> None:
    textures, others = images(4, 1), images(3, 2)
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[8:24, 8:24] = True
    region = region if limited else torch.ones_like(region)
    made = make_simulator(images(5, 0), textures, profile, 6, region)

    other = over_images(made, others)

    assert other.textures is made.textures
    expected = make_simulator(others, textures, profile, 6, region)
    for ours, theirs in zip(other.batch(2, 4), expected.batch(2, 4), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_with_other_textures_all_else_stays(profile: ResolvedSimulationConfig) -> None:
    normal, textures, others = images(5, 0), images(4, 1), images(3, 2)
    made = make_simulator(normal, textures, profile, 6)

    other = with_textures(made, others)

    assert other.normal_images is made.normal_images
    expected = make_simulator(normal, others, profile, 6)
    for ours, theirs in zip(other.batch(2, 4), expected.batch(2, 4), strict=True):
        assert torch.equal(ours, theirs)
    # The first one has kept its own.
    unchanged = make_simulator(normal, textures, profile, 6)
    for ours, theirs in zip(made.batch(2, 4), unchanged.batch(2, 4), strict=True):
        assert torch.equal(ours, theirs)
