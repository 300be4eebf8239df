from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from draem.errors import ImageSizeError
from draem.networks.pretrained import (
    VIEWS,
    PretrainedDraem,
    View,
    build_pretrained,
    joint_features,
    low_level,
    positive_log,
    views_of,
)
from tests.support import network_config


@pytest.fixture
def network() -> PretrainedDraem:
    config = network_config(
        architecture="pretrained", image_size=(64, 96), subspaces=3, subspace_rank=2
    )
    return build_pretrained(config)


def distances(scale: float = 1.0) -> Tensor:
    found = torch.rand(2, len(VIEWS), 8, 12, generator=torch.Generator().manual_seed(0))
    return scale * (found + 1)


def test_gives_what_every_network_gives(network: PretrainedDraem) -> None:
    with torch.inference_mode():
        output = network(torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)))
    assert output.reconstruction.shape == (2, 3, 64, 96)
    assert output.mask_logits.shape == (2, 2, 64, 96)
    assert torch.isfinite(output.mask_logits).all()


def test_refuses_other_sizes(network: PretrainedDraem) -> None:
    with pytest.raises(ImageSizeError):
        network(torch.zeros(1, 3, 64, 90))


def test_greater_distances_are_more_anomalous(network: PretrainedDraem) -> None:
    plain = distances()
    network.usual_level.copy_(low_level(plain)[0])
    defect = plain.clone()
    defect[:, :, 4, 6] *= 3
    logits = [network.mask_logits(given)[:, 1] for given in (plain, defect)]
    assert (logits[1] >= logits[0] - 1e-6).all()
    assert (logits[1] - logits[0])[0].argmax() // 96 in range(24, 48)


@pytest.mark.parametrize(("growth", "left"), [(1.0, 1.0), (1.3, 1.3), (1.6, 1.35), (3.0, 1.35)])
def test_growth_of_all_distances_is_kept_up_to_a_bound(
    network: PretrainedDraem, growth: float, left: float
) -> None:
    network.usual_level.copy_(low_level(distances())[0])
    network.means.zero_()
    usual = network.evidence(distances())[0]
    found = network.evidence(distances(growth))[0]
    torch.testing.assert_close(found, usual * left, rtol=1e-3, atol=0)
    assert math.log(1.35) == pytest.approx(0.3, abs=1e-3)


def test_low_level_is_near_the_lowest_and_not_moved_by_the_highest() -> None:
    plain = distances()
    level = low_level(plain)
    assert (level >= plain.amin((2, 3))).all()
    assert (level < plain.mean((2, 3))).all()
    defect = plain.clone()
    defect[:, :, :3] *= 10
    torch.testing.assert_close(low_level(defect), level, rtol=0.08, atol=0)
    same = torch.full((1, 1, 4, 4), 0.7)
    torch.testing.assert_close(low_level(same), torch.tensor([[0.7]]))


def test_positive_log_has_both_limits() -> None:
    found = positive_log(torch.tensor([-10.0, 0.0, 50.0]))
    expected = torch.tensor([-10.0, math.log(math.log(2)), math.log(50)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    values = positive_log(torch.linspace(-12, 60, 500))
    assert (values.diff() > 0).all()


LEVELS = (24, 40, 80, 112)


def view(first: int = 1, *, unit: bool = False, pooling: int = 1, shrunk: int = 1) -> View:
    return View((first, 3), unit, pooling, shrunk, by_place=False, share=1)


def test_features_of_unit_length_forget_the_contrast() -> None:
    levels = [torch.rand(1, channels, 4, 4) + 0.5 for channels in LEVELS]
    lengths = torch.full((4,), 1e-3)
    twice = [2 * level for level in levels]
    first, second = (joint_features(given, lengths, view(unit=True)) for given in (levels, twice))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)
    first, second = (joint_features(given, lengths, view()) for given in (levels, twice))
    torch.testing.assert_close(2 * first, second)


def test_pooling_averages_neighbours_and_repeats_no_border() -> None:
    levels = [torch.ones(1, channels, 4, 4) for channels in LEVELS]
    found = joint_features(levels, torch.ones(4), view(pooling=3, shrunk=2))
    torch.testing.assert_close(found, torch.ones(1, 2, 2, 232))


def test_a_view_has_the_levels_that_it_names() -> None:
    levels = [torch.full((1, channels, 4, 4), float(channels)) for channels in LEVELS]
    found = joint_features(levels, torch.ones(4), view()._replace(levels=(0, 1)))
    assert found.shape == (1, 4, 4, 64)
    assert set(found.unique().tolist()) == {24.0, 40.0}


def test_tiles_have_no_places() -> None:
    whole = network_config(architecture="pretrained", image_size=(64, 64))
    tiled = network_config(architecture="pretrained", image_size=(64, 64), tile=64)
    assert sum(view.by_place for view in views_of(whole)) == 1
    assert views_of(tiled) == tuple(view for view in VIEWS if not view.by_place)
