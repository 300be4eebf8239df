from __future__ import annotations

import pytest
import torch

from draem.simulation.sampling import (
    choose,
    image_order,
    log_uniform,
    seeded_generator,
    uniform,
)


def test_seeded_generators_differ_by_every_key() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (2**63, 0), (0, 2**40)]

    drawn = [torch.rand(4, generator=seeded_generator(*key)) for key in keys]

    assert len({tuple(numbers.tolist()) for numbers in drawn}) == len(keys)
    assert torch.equal(drawn[3], torch.rand(4, generator=seeded_generator(0, -1)))


def test_numbers_are_uniform_over_the_range_or_its_logarithm() -> None:
    even = uniform(4000, seeded_generator(0), 2, 32)
    spread = log_uniform(4000, seeded_generator(0), 2, 32)

    for numbers, median in ((even, 17), (spread, 8)):
        assert 2 <= float(numbers.min()) < 2.1
        assert 31 < float(numbers.max()) <= 32
        assert float(numbers.median()) == pytest.approx(median, rel=0.08)


def test_choices_come_as_often_as_weighed() -> None:
    chosen = choose((1, 0, 3), 4000, seeded_generator(0))

    shares = torch.bincount(chosen, minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.25, 0, 0.75]), atol=0.03, rtol=0)


def test_with_replacement_every_sample_chooses_anew() -> None:
    steps = [image_order(5, 0, step, 4, with_replacement=True) for step in range(1000)]

    drawn = torch.stack(steps)
    shares = torch.bincount(drawn.flatten(), minlength=5) / drawn.numel()
    torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.03, rtol=0)
    # Four independent choices among five differ from each other in 5 * 4 * 3 * 2 of 5**4 cases.
    all_different = [len(set(row)) == 4 for row in drawn.tolist()]
    assert sum(all_different) / len(drawn) == pytest.approx(120 / 625, abs=0.05)
    assert torch.equal(image_order(5, 0, 7, 4, with_replacement=True), drawn[7])
    assert not torch.equal(image_order(5, 1, 7, 64, with_replacement=True)[:4], drawn[7])
