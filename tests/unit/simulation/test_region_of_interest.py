from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from draem.config import PAPER, UPSTREAM, VARIED, ResolvedSimulationConfig
from draem.errors import InputError
from draem.simulation.device_images import resident
from draem.simulation.factory import make_simulator, without_clean_samples
from draem.simulation.foreground import checked_roi, within_roi
from draem.simulation.simulator import Simulator
from tests.support import source

SIZE = (64, 96)
PROFILES = [
    PAPER,
    UPSTREAM.replace(rotation_share=0.7, clean_share=0),
    VARIED.replace(crop=32, clean_share=0),
    VARIED.replace(crop=64, clean_share=0, rotation_share=0.8, zoom=2.0, flips=True, on_part=False),
    PAPER.replace(mask_shape="rectangle"),
]


def pictures(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def box(top: int, bottom: int, left: int, right: int) -> Tensor:
    region = torch.zeros(SIZE, dtype=torch.bool)
    region[top:bottom, left:right] = True
    return region


RAGGED = torch.from_numpy(np.random.default_rng(0).random((8, 12)).repeat(8, 0).repeat(8, 1) < 0.5)


def simulator(
    profile: ResolvedSimulationConfig,
    region: Tensor | None,
    images: Tensor | None = None,
    seed: int = 0,
) -> Simulator:
    images = pictures(4) if images is None else images
    textures = pictures(3, SIZE if profile.profile != "varied" else (64, 64), seed=1)
    return make_simulator(source(images), source(textures), profile, seed, region)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("region", [box(10, 50, 20, 60), RAGGED], ids=["box", "ragged"])
def test_outside_nothing_is_marked_and_nothing_changes(
    profile: ResolvedSimulationConfig, region: Tensor
) -> None:
    marked = 0
    for seed in range(6):
        made = simulator(profile, region, seed=seed)
        batch, inside = made.batch(seed, 16), made.inside(seed, 16)
        assert inside is not None
        assert inside.shape == batch.anomaly_mask.shape
        assert not inside.all()
        outside = ~inside
        assert not batch.anomaly_mask[outside].any()
        changed = (batch.simulated_images != batch.normal_images).any(1, keepdim=True)
        assert not (changed & outside).any()
        marked += int((batch.anomaly_mask.flatten(1).amax(1) > 0).sum())
    # There is something to learn from all the same.
    assert marked > 6 * 16 / 2


@pytest.mark.parametrize("profile", PROFILES)
def test_the_region_turns_and_is_cut_with_the_images(profile: ResolvedSimulationConfig) -> None:
    region = box(10, 50, 20, 60)
    images = (region * 255).to(torch.uint8).expand(4, 3, -1, -1).contiguous()
    made = simulator(profile.replace(opacity=(0.0, 0.0)), region, images)
    turned = 0
    for step in range(4):
        normal, inside = made.batch(step, 16).normal_images[:, :1], made.inside(step, 16)
        assert inside is not None
        assert ((normal > 0.5) == inside).float().mean() > 0.999
        turned += int((inside != inside[:1]).any())
    assert turned


@pytest.mark.parametrize("profile", PROFILES)
def test_the_whole_image_equals_no_region(profile: ResolvedSimulationConfig) -> None:
    made = simulator(profile, torch.ones(SIZE, dtype=torch.bool))
    assert made.region_of_interest is None
    assert made.inside(0, 4) is None
    for step in range(3):
        for pair in zip(made.batch(step, 8), simulator(profile, None).batch(step, 8), strict=True):
            assert torch.equal(*pair)


@pytest.mark.parametrize("profile", PROFILES[:2])
def test_inside_all_is_as_it_was(profile: ResolvedSimulationConfig) -> None:
    made, plain = simulator(profile, RAGGED), simulator(profile, None)
    for step in range(3):
        limited, whole, inside = made.batch(step, 8), plain.batch(step, 8), made.inside(step, 8)
        assert inside is not None
        assert torch.equal(limited.normal_images, whole.normal_images)
        assert torch.equal(limited.anomaly_mask, whole.anomaly_mask * inside)
        inside = inside.expand(-1, 3, -1, -1)
        assert torch.equal(limited.simulated_images[inside], whole.simulated_images[inside])


@pytest.mark.parametrize("on_part", [True, False])
def test_most_windows_lie_on_the_region(on_part: bool) -> None:
    profile = VARIED.replace(crop=32, on_part=on_part)
    corner = box(0, 16, 80, 96)
    seen = [
        float(made.flatten(1).any(1).float().mean())
        for region in (corner, corner.flip(0, 1))
        for made in [simulator(profile, region).inside(0, 200)]
        if made is not None
    ]
    assert len(seen) == 2
    assert min(seen) > 0.85
    # Without the weights fewer than a quarter would reach the corner.
    plain = simulator(profile, None)._sample_parameters(0, 200).windows  # type: ignore[attr-defined]
    assert ((plain.rows < 32) & (plain.columns > 64)).float().mean() < 0.3


def parts() -> Tensor:
    """Parts before a plain background, in the middle of every picture."""
    images = torch.full((4, 3, *SIZE), 20, dtype=torch.uint8)
    images[:, :, 20:44, 40:64] = 100 + pictures(4, (24, 24)) // 3
    return images


def test_anomalies_lie_on_the_part_in_the_region() -> None:
    profile = VARIED.replace(crop=64, clean_share=0)
    made = simulator(profile, box(0, 64, 0, 52), parts())
    share = made.foreground.stored.float().mean((1, 2, 3)) / 255  # type: ignore[attr-defined]
    assert ((share > 0) & (share < 0.25)).all()
    assert not made.foreground.stored[..., 52:].any()  # type: ignore[attr-defined]


def test_where_no_part_lies_in_the_region_all_of_the_region_counts() -> None:
    region = box(0, 10, 0, 30)
    made = simulator(VARIED.replace(crop=64, clean_share=0), region, parts())
    assert (made.foreground.stored == region * 255).all()  # type: ignore[attr-defined]
    batch = made.batch(0, 32)
    assert (batch.anomaly_mask.flatten(1).amax(1) > 0).float().mean() > 0.5


def test_the_part_within_the_region() -> None:
    part = torch.zeros(2, 1, 4, 6, dtype=torch.uint8)
    part[0, :, 1:3, 1:5] = 255
    part[1, :, 1:3, 4:6] = 255
    region = torch.zeros(4, 6, dtype=torch.bool)
    region[:, :3] = True
    images = resident(torch.zeros(2, 3, 4, 6, dtype=torch.uint8))
    on_part = resident(part)
    found = within_roi(on_part, region, images)
    assert found is not None
    assert found.stored[0, 0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert torch.equal(found.stored[1, 0] > 0, region)
    assert within_roi(on_part, None, images) is on_part
    assert within_roi(None, None, images) is None
    everywhere = within_roi(None, region, images)
    assert everywhere is not None
    assert everywhere.shape == (2, 1, 4, 6)
    assert torch.equal(everywhere.stored[1, 0], region * 255)


@pytest.mark.parametrize("profile", PROFILES)
def test_copies_keep_the_region(profile: ResolvedSimulationConfig) -> None:
    made = simulator(profile, RAGGED)
    copy = without_clean_samples(made, 5)
    assert copy.region_of_interest is not None
    assert copy.region_of_interest.shape == SIZE


@pytest.mark.parametrize(
    "region",
    [
        torch.ones(64, 95, dtype=torch.bool),
        torch.ones(1, 64, 96, dtype=torch.bool),
        torch.ones(64, 96),
        torch.zeros(64, 96, dtype=torch.bool),
    ],
)
def test_what_is_no_region_is_refused(region: Tensor) -> None:
    for profile in (PAPER, VARIED):
        with pytest.raises(InputError, match=r"region of interest.*\(64, 96\).*Found"):
            simulator(profile, region)
    assert checked_roi(None, resident(pictures(1))) is None
