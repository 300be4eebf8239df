from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from draem.simulation.device_images import resident
from draem.simulation.foreground import COARSE, find_foreground, place_weights


def weights_of(foreground: Tensor) -> Tensor:
    images = torch.zeros(len(foreground), 3, *foreground.shape[2:], dtype=torch.uint8)
    return place_weights(resident(foreground), resident(images))


PART = (slice(12, 30), slice(20, 44))
"""Where the part lies in pictures of (48, 64)."""


def parts(count: int, background: int = 20, level: int = 180) -> Tensor:
    """Parts before a plain background, with a little noise."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(-3, 4, (count, 3, 48, 64), generator=generator) + background
    images[:, :, PART[0], PART[1]] += level - background
    return images.to(torch.uint8)


def clutter(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randint(0, 256, (count, 3, 48, 64), generator=generator, dtype=torch.uint8)


def part_mask() -> Tensor:
    mask = torch.zeros(48, 64)
    mask[PART] = 1
    return mask


@pytest.mark.parametrize(("background", "level"), [(20, 180), (230, 60), (128, 200)])
def test_the_part_is_found_and_little_around_it(background: int, level: int) -> None:
    found = find_foreground(resident(parts(3, background, level)))

    assert found is not None
    assert found.shape == (3, 1, 48, 64)
    assert found.stored.dtype == torch.uint8
    assert set(found.stored.unique().tolist()) == {0, 255}
    near = torch.from_numpy(cv2.dilate(part_mask().numpy(), np.ones((13, 13), np.uint8)))
    for each in found.stored[:, 0]:
        assert bool((each[part_mask() == 1] == 255).all())
        assert bool((each[near == 0] == 0).all())


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_part_may_differ_in_one_channel_alone(channel: int) -> None:
    images = torch.full((1, 3, 48, 64), 90, dtype=torch.uint8)
    images[:, channel, PART[0], PART[1]] = 140

    found = find_foreground(resident(images))

    assert found is not None
    assert bool((found.stored[0, 0][PART] == 255).all())


@pytest.mark.parametrize(("contrast", "seen"), [(20, False), (35, True)])
def test_a_part_must_differ_by_a_tenth_of_the_range(contrast: int, seen: bool) -> None:
    images = torch.full((1, 3, 48, 64), 90, dtype=torch.uint8)
    images[:, :, PART[0], PART[1]] = 90 + contrast

    assert (find_foreground(resident(images)) is not None) == seen


def test_pictures_without_a_plain_background_have_no_foreground() -> None:
    assert find_foreground(resident(clutter(3))) is None


def test_a_background_of_two_tones_is_not_plain() -> None:
    images = torch.full((2, 3, 48, 64), 40, dtype=torch.uint8)
    images[:, :, :, 35:] = 160

    assert find_foreground(resident(images)) is None


def test_a_plain_picture_has_no_foreground() -> None:
    assert find_foreground(resident(torch.full((2, 3, 48, 64), 77, dtype=torch.uint8))) is None


@pytest.mark.parametrize(("side", "found"), [(2, False), (12, True), (32, True), (46, False)])
def test_a_part_is_neither_tiny_nor_nearly_everything(side: int, found: bool) -> None:
    images = torch.full((1, 3, 48, 48), 20, dtype=torch.uint8)
    first = (48 - side) // 2
    images[:, :, first : first + side, first : first + side] = 255

    assert (find_foreground(resident(images)) is not None) == found


def test_a_large_part_inside_a_plain_border_is_refused() -> None:
    images = torch.full((1, 3, 64, 64), 20, dtype=torch.uint8)
    images[:, :, 5:-5, 5:-5] = 200

    assert find_foreground(resident(images)) is None


@pytest.mark.parametrize(("cluttered", "found"), [(0, True), (1, True), (2, False)])
def test_one_picture_in_ten_may_be_cluttered(cluttered: int, found: bool) -> None:
    images = torch.cat((parts(10 - cluttered), clutter(cluttered)))

    foreground = find_foreground(resident(images))

    assert (foreground is not None) == found
    assert foreground is None or len(foreground) == 10


def test_many_pictures_are_each_what_they_are_alone() -> None:
    images = torch.cat((parts(40), parts(41, 230, 60)))

    found = find_foreground(resident(images))

    assert found is not None
    for index in (0, 39, 63, 64, 80):
        alone = find_foreground(resident(images[index : index + 1]))
        assert alone is not None
        assert torch.equal(found.stored[index], alone.stored[0])


@pytest.mark.parametrize("size", [(48, 64), (33, 50), (5, 8)])
def test_without_a_foreground_places_are_even(size: tuple[int, int]) -> None:
    weights = place_weights(None, resident(torch.zeros(3, 3, *size, dtype=torch.uint8)))

    cells = tuple(-(-side // COARSE) for side in size)
    assert weights.shape == (3, *cells)
    torch.testing.assert_close(weights, torch.full((3, *cells), 1 / (cells[0] * cells[1])))


def test_nine_tenths_of_the_places_are_on_the_part() -> None:
    foreground = torch.zeros(1, 1, 48, 64, dtype=torch.uint8)
    foreground[:, :, 8:24, 16:40] = 255  # six cells of 48

    weights = place_weights(
        resident(foreground), resident(torch.zeros(1, 3, 48, 64, dtype=torch.uint8))
    )[0]

    expected = torch.full((6, 8), 0.1 / 48)
    expected[1:3, 2:5] += 0.9 / 6
    torch.testing.assert_close(weights, expected)


def test_cells_count_by_how_much_of_them_is_part() -> None:
    foreground = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    foreground[:, :, :8, :8] = 255
    foreground[:, :, 8:, 8:12] = 255

    weights = place_weights(
        resident(foreground), resident(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    )[0]

    torch.testing.assert_close(weights, torch.tensor([[0.625, 0.025], [0.025, 0.325]]))


def test_a_picture_without_a_part_among_others_is_even() -> None:
    foreground = torch.zeros(2, 1, 48, 64, dtype=torch.uint8)
    foreground[0, :, 8:24, 16:40] = 255

    weights = place_weights(
        resident(foreground), resident(torch.zeros(2, 3, 48, 64, dtype=torch.uint8))
    )

    torch.testing.assert_close(weights[1], torch.full((6, 8), 1 / 48))
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))


def test_weights_sum_to_one_where_cells_do_not_divide_the_picture() -> None:
    images = parts(3)[:, :, :45, :61]
    foreground = find_foreground(resident(images))

    assert foreground is not None
    weights = place_weights(foreground, resident(images))
    assert weights.shape == (3, 6, 8)
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(3))


def test_an_exception_among_plain_pictures_is_part_all_over() -> None:
    images = torch.full((20, 3, 64, 64), 30, dtype=torch.uint8)
    images[:, :, 24:40, 24:40] = 200
    images[7] = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0))

    found = find_foreground(resident(images))

    assert found is not None
    assert bool((found.stored[7] == 255).all())
    assert 0 < float((found.stored[0] == 255).float().mean()) < 0.3
