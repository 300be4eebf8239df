from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from draem.simulation.perlin import perlin_field, perlin_noise
from tests.reference.perlin import slow_perlin, slow_perlin_at, source_point
from tests.support import pixel_grid


def random_angles(batch: int, nodes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * math.pi * torch.rand(batch, nodes, nodes, generator=generator)


@pytest.mark.parametrize("size", [(16, 16), (15, 24), (32, 9)])
def test_field_follows_the_definition_at_rotated_coordinates(size: tuple[int, int]) -> None:
    cells = [(4, 4), (1, 8), (2, 1), (8, 2)]
    degrees = [0.0, 30.0, -71.5, 90.0]
    angles = random_angles(4, 7)

    fields = perlin_field(size, torch.tensor(cells).float(), torch.tensor(degrees), angles)

    assert fields.shape == (4, *size)
    for number in range(4):
        expected = slow_perlin(size, cells[number], degrees[number], angles[number].tolist())
        np.testing.assert_allclose(fields[number].numpy(), expected, atol=2e-5)


def test_noise_follows_the_definition_at_any_coordinates() -> None:
    generator = torch.Generator().manual_seed(3)
    rows, columns = 40 * torch.rand(2, 1, 6, 5, generator=generator, dtype=torch.float64) - 20
    angles = random_angles(1, 6).double()

    noise = perlin_noise(rows, columns, angles)[0]

    for place in np.ndindex(6, 5):
        y, x = float(rows[0][place]), float(columns[0][place])
        expected = slow_perlin_at(y, x, angles[0].tolist())
        assert float(noise[place]) == pytest.approx(expected, abs=1e-12)


def test_noise_has_the_value_derived_by_hand() -> None:
    # All gradients point down the rows. A quarter below a node the upper ramp is 1/4, the lower
    # one -3/4, and the fade is 6/4^5 - 15/4^4 + 10/4^3 = 106/1024.
    quarter = torch.full((1, 1, 1), 0.25)

    noise = perlin_noise(quarter, torch.full((1, 1, 1), 0.6), torch.zeros(1, 3, 3))

    assert float(noise) == pytest.approx(math.sqrt(2) * (0.25 - 106 / 1024), abs=1e-6)


def test_first_gradient_component_goes_with_the_rows() -> None:
    down_the_rows = perlin_field(
        (8, 8), torch.tensor([[2.0, 2.0]]), torch.zeros(1), torch.zeros(1, 4, 4)
    )

    assert float(down_the_rows.std(2).max()) < 1e-6
    assert float(down_the_rows.std(1).min()) > 0.1


def test_noise_is_zero_at_lattice_nodes_and_nowhere_else() -> None:
    field = perlin_field(
        (32, 64), torch.tensor([[8.0, 4.0]]), torch.zeros(1), random_angles(1, 10)
    )[0]
    nodes = torch.zeros(32, 64, dtype=torch.bool)
    nodes[::4, ::16] = True

    assert float(field[nodes].abs().max()) < 1e-6
    assert float(field[~nodes].abs().min()) > 1e-6


def test_noise_and_its_slope_are_continuous_across_cell_borders() -> None:
    angles = random_angles(1, 5).double()
    along = torch.linspace(0.05, 3.95, 40, dtype=torch.float64).view(1, 1, 40)
    step = 1e-5
    across = torch.tensor([-step, 0, step], dtype=torch.float64).view(1, 3, 1) + 2
    rows, columns = torch.broadcast_tensors(across, along)

    for noise in (perlin_noise(rows, columns, angles), perlin_noise(columns, rows, angles)):
        before, after = (noise[0, 1:] - noise[0, :2]) / step
        assert float((after - before).abs().max()) < 1e-3
        assert float(before.abs().max()) > 0.1


def test_noise_stays_within_its_range_and_uses_it() -> None:
    field = perlin_field(
        (64, 64), torch.full((64, 2), 8.0), torch.zeros(64), random_angles(64, 10, seed=5)
    )

    assert 0.8 < float(field.abs().max()) <= 1
    assert abs(float(field.mean())) < 0.01


def test_nodes_beyond_the_table_repeat_it() -> None:
    rows, columns = pixel_grid(9, 9, torch.zeros(1), dtype=torch.float64)
    angles = random_angles(1, 3).double()
    rows, columns = rows / 4, columns / 4

    shifted = perlin_noise(rows - 3, columns + 6, angles)

    torch.testing.assert_close(shifted, perlin_noise(rows, columns, angles))


@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_quarter_turns_equal_turned_pictures(turns: int) -> None:
    cells, angles = torch.tensor([[4.0, 4.0]]), random_angles(1, 8)

    turned = perlin_field((24, 24), cells, torch.tensor([90.0 * turns]), angles)

    upright = perlin_field((24, 24), cells, torch.zeros(1), angles)
    torch.testing.assert_close(turned, torch.rot90(upright, turns, (1, 2)), atol=1e-4, rtol=0)


def test_a_quarter_turn_anticlockwise_shows_the_right_edge_at_the_top() -> None:
    rows, columns = pixel_grid(5, 5, torch.tensor([90.0]))

    torch.testing.assert_close(columns[0, 0], torch.full((5,), 4.0))
    torch.testing.assert_close(rows[0, 0], torch.arange(5.0), atol=1e-5, rtol=0)


def test_no_turn_leaves_the_grid_exact() -> None:
    rows, columns = pixel_grid(6, 7, torch.zeros(2))

    assert rows.shape == columns.shape == (2, 6, 7)
    assert torch.equal(rows[1], torch.arange(6.0)[:, None].expand(6, 7))
    assert torch.equal(columns[1], torch.arange(7.0).expand(6, 7))


@pytest.mark.parametrize("size", [(20, 20), (12, 31)])
@pytest.mark.parametrize("degrees", [0.0, 17.0, -45.0, 88.0])
def test_zero_outside_clears_exactly_what_the_rotation_brings_in(
    size: tuple[int, int], degrees: float
) -> None:
    height, width = size
    cells, angles = torch.tensor([[4.0, 2.0]]), random_angles(1, 8)
    turn = torch.tensor([degrees])

    cleared = perlin_field(size, cells, turn, angles, zero_outside=True)[0]

    going_on = perlin_field(size, cells, turn, angles)[0]
    outside = torch.zeros(size, dtype=torch.bool)
    for row, column in np.ndindex(size):
        point = source_point(row, column, size, degrees)
        outside[row, column] = not (0 <= point.imag <= height - 1 and 0 <= point.real <= width - 1)
    assert torch.equal(cleared, torch.where(outside, 0.0, going_on))
    assert bool(outside.any()) == (degrees != 0)
