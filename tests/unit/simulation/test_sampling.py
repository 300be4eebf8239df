from __future__ import annotations

import pytest
import torch

from draem.simulation.sampling import choose, log_uniform, seeded_generator, uniform


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
