from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from draem.inspection.calibration import calibrate
from draem.networks.pretrained import VIEWS, PretrainedDraem, build_pretrained
from draem.training.evidence import (
    SimulatedDistances,
    cross_fitted_scores,
    describe_normal,
    fit_discriminator,
)
from tests.support import network_config

SIDE = 3
SHARES = torch.tensor([view.share for view in VIEWS])


@pytest.fixture
def network() -> PretrainedDraem:
    config = network_config(
        architecture="pretrained", image_size=(64, 64), subspaces=2, subspace_rank=1
    )
    return build_pretrained(config)


def normal(count: int = 40, seed: int = 0) -> Tensor:
    """Distances that are usual at their place: twice as high in the right half."""
    generator = torch.Generator().manual_seed(seed)
    found = 1 + 0.1 * torch.randn(count, len(VIEWS), 8, 8, generator=generator)
    found[..., 4:] *= 2
    return found.abs()


def simulated() -> SimulatedDistances:
    distances, covered = normal(seed=1), torch.zeros(40, 8, 8)
    distances[:, :, 2:4, 1:3] += 0.8
    covered[:, 2:4, 1:3] = 1
    return SimulatedDistances(distances, covered, 5)


def test_evidence_of_normal_images_is_standardised(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=True)
    evidence = network.evidence(normal()).transpose(0, 1).flatten(1)
    torch.testing.assert_close(evidence.std(1), torch.ones(2 * len(VIEWS)), atol=1e-3, rtol=0)
    assert evidence[: len(VIEWS)].mean(1).abs().max() < 0.05


def test_a_place_forgives_what_is_usual_there(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=True)
    here, anywhere = network.evidence(normal()).mean(0).split(len(VIEWS))
    assert here[..., 5:].mean().abs() < 0.2
    assert anywhere[..., 4:].mean() > 0.5


def test_without_places_both_kinds_are_the_same(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=False)
    here, anywhere = network.evidence(normal())[0].split(len(VIEWS))
    torch.testing.assert_close(here, anywhere)


def test_discriminator_learns_to_trust_the_place(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=True)
    fit_discriminator(network, normal(), simulated(), SHARES, seed=0)
    views = len(VIEWS)
    assert network.weights[:views].sum() > 1.1 * network.weights[views:].sum()
    torch.testing.assert_close(network.weights.sum(), torch.tensor(1.0))
    maps = network.mask_logits(simulated().distances).softmax(1)[:, 1]
    assert maps[:, 20:28, 12:20].mean() > 0.5 > 5 * maps[:, 40:].mean()


def test_what_is_not_trusted_has_no_weight(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=True)
    shares = SHARES.clone()
    shares[3] = 0
    fit_discriminator(network, normal(), simulated(), shares, seed=0)
    here, anywhere = network.weights.split(len(VIEWS))
    assert here[3] + anywhere[3] < 0.01
    assert here[2] < here[0]


def test_the_seed_decides(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=True)
    before = torch.get_rng_state()
    found = []
    for _ in range(2):
        fit_discriminator(network, normal(), simulated(), SHARES, seed=0)
        found.append(network.weights.clone())
    assert torch.equal(*found)
    assert torch.equal(before, torch.get_rng_state())


def test_scores_do_not_see_the_fold_that_they_are_of(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=True)
    fit_discriminator(network, normal(), simulated(), SHARES, seed=0)
    distances, folds = normal(), np.arange(40) % 4
    # All images of one fold are odd at one place: seen, that would be usual there.
    distances[folds == 0, :, 6, 6] = 6
    scores = cross_fitted_scores(network, distances, folds, SIDE, by_place=True)
    assert scores[folds == 0].min() > scores[folds != 0].max()
    alone = cross_fitted_scores(network, distances, np.zeros(40, int), SIDE, by_place=True)
    assert alone[folds == 0].mean() < scores[folds == 0].mean()
    # In the end the network knows what is usual in all of them.
    means = network.means.clone()
    describe_normal(network, distances, by_place=True)
    assert torch.equal(means, network.means)


def test_scores_outside_the_region_of_interest_do_not_count(network: PretrainedDraem) -> None:
    describe_normal(network, normal(), by_place=True)
    fit_discriminator(network, normal(), simulated(), SHARES, seed=0)
    distances = normal()
    distances[0, :, 6, 6] = 6
    inside = np.zeros((64, 64), bool)
    inside[:32] = True
    folds = np.arange(40) % 4
    whole = cross_fitted_scores(network, distances, folds, SIDE, by_place=True)
    part = cross_fitted_scores(network, distances, folds, SIDE, inside, by_place=True)
    assert whole[0] > 0.5 > part[0]


def _rejected(by_group: bool, rate: float, rng: np.random.Generator) -> float:
    """Share of new parts that a nearest-neighbour model with a cross-fitted threshold rejects."""
    parts, pictures, folds = 40, 3, 4
    centres = rng.normal(size=(parts, 2))
    images = np.repeat(centres, pictures, axis=0) + rng.normal(0, 0.01, (parts * pictures, 2))
    groups = np.repeat(np.arange(parts), pictures)
    fold = rng.permutation(parts)[groups] % folds if by_group else rng.permutation(len(images)) % 4
    scores = np.empty(len(images))
    for name in range(folds):
        seen = images[fold != name]
        inside = images[fold == name]
        scores[fold == name] = np.linalg.norm(inside[:, None] - seen[None], axis=2).min(1) / 10
    found = calibrate(scores.tolist(), rate, groups=groups if by_group else None)
    new = rng.normal(size=(50, 2))
    distance = np.linalg.norm(new[:, None] - images[None], axis=2).min(1) / 10
    return float((distance >= found.threshold).mean())


def test_cross_fitted_threshold_keeps_its_rate_over_a_thousand_splits() -> None:
    rate = 0.1
    rng = np.random.default_rng(0)
    by_group = np.mean([_rejected(True, rate, rng) for _ in range(1000)])
    by_image = np.mean([_rejected(False, rate, rng) for _ in range(1000)])
    assert by_group <= rate
    assert by_image > 3 * rate
