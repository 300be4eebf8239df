from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from draem.simulation.filters import box_blur, dilate


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("side", [1, 3, 5, 9])
@pytest.mark.parametrize("size", [(17, 24), (24, 17), (3, 4)])
def test_box_blur_is_opencvs(size: tuple[int, int], side: int) -> None:
    images = random_images(2, 3, *size)

    blurred = box_blur(images, side)

    assert blurred.shape == images.shape
    for channel, expected in zip(blurred.flatten(0, 1), images.flatten(0, 1), strict=True):
        reference = cv2.blur(expected.numpy(), (side, side), borderType=cv2.BORDER_REPLICATE)
        np.testing.assert_allclose(channel.numpy(), reference, atol=1e-6)


@pytest.mark.parametrize("side", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(17, 24), (24, 17), (3, 4)])
def test_dilate_is_opencvs(size: tuple[int, int], side: int) -> None:
    images = random_images(2, 2, *size)
    images *= images > 0.9

    dilated = dilate(images, side)

    assert dilated.shape == images.shape
    for channel, expected in zip(dilated.flatten(0, 1), images.flatten(0, 1), strict=True):
        reference = cv2.dilate(expected.numpy(), np.ones((side, side), np.uint8))
        np.testing.assert_array_equal(channel.numpy(), reference)


def test_a_lone_pixel_becomes_a_square() -> None:
    lone = torch.zeros(1, 1, 9, 12)
    lone[0, 0, 4, 7] = 1

    square = torch.zeros_like(lone)
    square[0, 0, 2:7, 5:10] = 1
    assert torch.equal(dilate(lone, 5), square)
    torch.testing.assert_close(box_blur(lone, 5), square / 25)


def test_a_plain_picture_stays_plain_up_to_its_border() -> None:
    plain = torch.full((1, 3, 8, 11), 0.3)

    torch.testing.assert_close(box_blur(plain, 7), plain)
    assert torch.equal(dilate(plain, 7), plain)


@pytest.mark.parametrize("side", [1, 3])
def test_the_given_images_stay_as_they_were(side: int) -> None:
    images = random_images(1, 3, 8, 11)
    before = images.clone()

    box_blur(images, side)
    dilate(images, side)

    assert torch.equal(images, before)
