from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from draem.simulation.geometry import Fill, rotate
from tests.reference.perlin import source_point


def random_images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("fill", ["black", "mirror"])
@pytest.mark.parametrize("side", [8, 9])
def test_a_quarter_turn_is_torchs(side: int, fill: Fill) -> None:
    images = random_images(2, 3, side, side)

    turned = rotate(images, torch.tensor([90.0, -90.0]), fill)

    assert torch.equal(turned[0], torch.rot90(images[0], 1, (1, 2)))
    assert torch.equal(turned[1], torch.rot90(images[1], -1, (1, 2)))


@pytest.mark.parametrize("fill", ["black", "mirror"])
def test_no_turn_changes_nothing(fill: Fill) -> None:
    images = random_images(2, 3, 12, 31)

    assert torch.equal(rotate(images, torch.zeros(2), fill), images)


def test_a_positive_angle_turns_anticlockwise() -> None:
    image = torch.zeros(1, 1, 21, 21)
    image[0, 0, 10, 18] = 1  # right of the middle

    turned = rotate(image, torch.tensor([60.0]), "black")[0, 0]

    row, column = divmod(int(turned.argmax()), 21)
    assert row < 10  # above the middle
    assert math.degrees(math.atan2(10 - row, column - 10)) == pytest.approx(60, abs=4)


@pytest.mark.parametrize(("fill", "mode"), [("black", "constant"), ("mirror", "reflect")])
@pytest.mark.parametrize("degrees", [25.0, -45.0, 70.0])
def test_rotation_is_bilinear_at_the_turned_points(
    fill: Fill, mode: Literal["constant", "reflect"], degrees: float
) -> None:
    size, margin = (14, 11), 6
    image = torch.rand(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    turned = rotate(image.float()[None, None], torch.tensor([degrees]), fill)[0, 0]

    padded = np.pad(image.numpy(), margin, mode=mode)
    for row, column in np.ndindex(size):
        point = source_point(row, column, size, degrees) + complex(margin, margin)
        top, left = math.floor(point.imag), math.floor(point.real)
        v, u = point.imag - top, point.real - left
        upper = padded[top, left] * (1 - u) + padded[top, left + 1] * u
        lower = padded[top + 1, left] * (1 - u) + padded[top + 1, left + 1] * u
        assert float(turned[row, column]) == pytest.approx(upper * (1 - v) + lower * v, abs=1e-5)


def test_fill_decides_what_comes_in_at_the_corners() -> None:
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    degrees = torch.tensor([45.0])

    assert torch.equal(rotate(white, degrees, "mirror"), white)
    black = rotate(white, degrees, "black")[0, 0]
    assert black[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 0, 0]
    assert int(black[8:24, 8:24].min()) == 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_shape_and_dtype_stay(dtype: torch.dtype) -> None:
    images = random_images(2, 1, 6, 10).to(dtype)

    turned = rotate(images, torch.tensor([10.0, -5.0]), "black")

    assert turned.shape == images.shape
    assert turned.dtype == dtype
