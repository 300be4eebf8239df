from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from draem.simulation import enhance


def enhanced(images: Tensor, kind: type[ImageEnhance._Enhance], factor: float) -> Tensor:
    changed = [
        np.asarray(kind(Image.fromarray(picture.permute(1, 2, 0).numpy())).enhance(factor))
        for picture in images
    ]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2)


def random_images(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("factor", [0, 0.3, 0.77, 1, 1.5, 3])
def test_color_is_pillows_within_a_level(batch: Tensor, factor: float) -> None:
    changed = enhance.color(batch, torch.full((len(batch),), float(factor)))

    difference = changed.int() - enhanced(batch, ImageEnhance.Color, factor).int()
    # Pillow drops the fraction of a blend, here it is rounded.
    assert set(difference.unique().tolist()) <= ({0} if factor in (0, 1) else {0, 1})


def test_grey_is_pillows_exactly() -> None:
    images = random_images(2, 1, 3, 300, 400)

    changed = enhance.color(images, torch.zeros(1))

    assert torch.equal(changed, enhanced(images, ImageEnhance.Color, 0))


@pytest.mark.parametrize("factor", [0, 0.3, 0.77, 1, 1.5, 4])
def test_sharpness_is_pillows_within_a_level(batch: Tensor, factor: float) -> None:
    changed = enhance.sharpness(batch, torch.full((len(batch),), float(factor)))

    difference = changed.int() - enhanced(batch, ImageEnhance.Sharpness, factor).int()
    assert set(difference.unique().tolist()) <= ({0} if factor in (0, 1) else {0, 1})


def test_sharpness_leaves_the_outermost_pixels() -> None:
    images = random_images(3, 2, 3, 8, 9)

    changed = enhance.sharpness(images, torch.tensor([0.0, 4.0]))

    assert torch.equal(changed[:, :, 0], images[:, :, 0])
    assert torch.equal(changed[..., -1], images[..., -1])
    assert not torch.equal(changed[:, :, 1:-1, 1:-1], images[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize(
    ("turn", "saturation"),
    [(0.0, 0.0), (1 / 3, 0.0), (-0.2, 0.0), (0.0, 0.2), (0.15, -0.2), (-0.19, 0.19), (0.0, -1.0)],
)
def test_hue_and_saturation_are_colorsys(turn: float, saturation: float) -> None:
    images = random_images(4, 1, 3, 16, 24)
    images[0, :, 0, :4] = torch.tensor([0, 255, 255, 90], dtype=torch.uint8)
    images[0, 0, 0, 1] = 254

    changed = enhance.hue_and_saturation(images, torch.tensor([turn]), torch.tensor([saturation]))

    for row, column in np.ndindex(16, 24):
        hue, old, value = colorsys.rgb_to_hsv(*(images[0, :, row, column] / 255).tolist())
        new = min(max(old + saturation, 0.0), 1.0)
        exact = 255 * np.array(colorsys.hsv_to_rgb((hue + turn) % 1, new, value))
        assert np.abs(changed[0, :, row, column].numpy() - exact).max() <= 0.5 + 1e-3


def test_no_shift_of_hue_and_saturation_changes_nothing(batch: Tensor) -> None:
    zeros = torch.zeros(len(batch))

    assert torch.equal(enhance.hue_and_saturation(batch, zeros, zeros), batch)


def test_a_third_of_a_turn_makes_red_green() -> None:
    red = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    red[:, 0] = 200

    changed = enhance.hue_and_saturation(red, torch.tensor([1 / 3]), torch.zeros(1))

    assert changed.flatten().tolist() == [0, 200, 0]


def test_each_picture_has_its_own_parameters() -> None:
    images = random_images(5, 2, 3, 10, 10)
    first, second = torch.tensor([0.0, 2.0]), torch.tensor([0.1, -0.1])

    for changed, alone in (
        (enhance.color(images, first), enhance.color(images[1:], first[1:])),
        (
            enhance.sharpness(images, first),
            enhance.sharpness(images[1:], first[1:]),
        ),
        (
            enhance.hue_and_saturation(images, first, second),
            enhance.hue_and_saturation(images[1:], first[1:], second[1:]),
        ),
    ):
        assert changed.dtype == torch.uint8
        assert torch.equal(changed[1:], alone)
        assert not torch.equal(changed, images)
