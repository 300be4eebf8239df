from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from draem.simulation.batch_indexing import take
from draem.simulation.device_images import resident
from draem.simulation.windows import Windows, crop_windows, locate


def random_pictures(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def smooth_picture(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [
        torch.sin(rows / 5) + torch.cos(columns / 4),
        torch.sin((rows + 2 * columns) / 9) + torch.cos(rows / 7),
        torch.cos((rows - columns) / 6) + torch.sin(columns / 8),
    ]
    return (127 + 60 * torch.stack(waves)).round().to(torch.uint8)[None]


def window(
    row: float,
    column: float,
    degrees: float = 0,
    scale: float = 1,
    mirrored: bool = False,
    picture: int = 0,
) -> Windows:
    return Windows(
        pictures=torch.tensor([picture]),
        rows=torch.tensor([float(row)]),
        columns=torch.tensor([float(column)]),
        degrees=torch.tensor([float(degrees)]),
        scale=torch.tensor([float(scale)]),
        mirrored=torch.tensor([mirrored]),
    )


def together(*windows: Windows) -> Windows:
    fields = Windows.__slots__
    return Windows(*(torch.cat([getattr(each, name) for each in windows]) for name in fields))


def middle(size: int, first: int) -> float:
    """The centre of a window that begins at `first`."""
    return first + (size - 1) / 2


@pytest.mark.parametrize("size", [(8, 14), (9, 13), (8, 13), (1, 1)])
@pytest.mark.parametrize("first", [(0, 0), (5, 7)])
def test_a_straight_window_is_a_slice(size: tuple[int, int], first: tuple[int, int]) -> None:
    pictures = random_pictures(3, 3, 20, 30)
    centre = middle(size[0], first[0]), middle(size[1], first[1])

    seen = crop_windows(resident(pictures), window(*centre, picture=2), size)

    expected = pictures[2:, :, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]
    assert torch.equal(seen, expected / 255)
    mirrored = crop_windows(resident(pictures), window(*centre, mirrored=True, picture=2), size)
    assert torch.equal(mirrored, expected.flip(3) / 255)


def test_the_whole_picture_is_a_window_too() -> None:
    pictures = random_pictures(1, 3, 7, 12)

    assert torch.equal(crop_windows(resident(pictures), window(3, 5.5), (7, 12)), pictures / 255)


@pytest.mark.parametrize("first", [(-4, -6), (11, 18), (-15, 33), (40, -50)])
def test_a_straight_window_beyond_the_border_is_mirrored(first: tuple[int, int]) -> None:
    pictures, margin = random_pictures(1, 1, 12, 20), 60
    size = (8, 10)

    seen = crop_windows(
        resident(pictures), window(middle(8, first[0]), middle(10, first[1])), size
    )[0, 0]

    padded = np.pad(pictures[0, 0].numpy(), margin, mode="reflect")
    top, left = first[0] + margin, first[1] + margin
    np.testing.assert_allclose(255 * seen.numpy(), padded[top : top + 8, left : left + 10])


def test_a_picture_of_one_row_goes_on_as_it_is() -> None:
    pictures = random_pictures(1, 3, 1, 9)

    seen = crop_windows(resident(pictures), window(0, 4), (5, 9))

    assert torch.equal(seen, (pictures / 255).expand(-1, -1, 5, -1))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("centre", [(9, 12.5), (2, 1.5), (18, 28.5)])
def test_the_straight_path_agrees_with_the_turned(
    mirrored: bool, centre: tuple[float, float]
) -> None:
    # A full turn is no turn, but takes the way of the turned.
    pictures = random_pictures(1, 3, 20, 30)
    straight, turned = (window(*centre, degrees, mirrored=mirrored) for degrees in (0, 360))

    seen = crop_windows(resident(pictures), straight, (9, 12))

    torch.testing.assert_close(
        crop_windows(resident(pictures), turned, (9, 12)), seen, atol=2e-4, rtol=0
    )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("degrees", "scale"), [(30, 1), (-100, 1), (0, 0.5), (0, 1.7), (65, 0.6), (-20, 1.4)]
)
@pytest.mark.parametrize("centre", [(22.3, 31.8), (3.5, 60.2)])
def test_turned_windows_are_opencvs(
    centre: tuple[float, float], degrees: float, scale: float, mirrored: bool
) -> None:
    picture, size = smooth_picture(45, 64), (20, 26)

    seen = crop_windows(resident(picture), window(*centre, degrees, scale, mirrored), size)[0]

    # Seen in a window turned anticlockwise, the picture is turned anticlockwise.
    around = ((size[1] - 1) / 2, (size[0] - 1) / 2)
    matrix = cv2.getRotationMatrix2D((centre[1], centre[0]), degrees, 1 / scale)
    matrix[:, 2] += np.array(around) - (centre[1], centre[0])
    source = np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy(), np.float32) / 255
    flags, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
    expected = cv2.warpAffine(source, matrix, size[::-1], flags=flags, borderMode=border)
    if mirrored:
        expected = expected[:, ::-1]
    np.testing.assert_allclose(seen.permute(1, 2, 0).numpy(), expected, atol=0.01)


def test_what_is_seen_turns_anticlockwise() -> None:
    picture = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    picture[0, 0, 10, 18] = 255  # right of the middle

    seen = crop_windows(resident(picture), window(10, 10, 60), (21, 21))[0, 0]

    row, column = divmod(int(seen.argmax()), 21)
    assert math.degrees(math.atan2(10 - row, column - 10)) == pytest.approx(60, abs=4)


@pytest.mark.parametrize("scale", [0.5, 2])
def test_scale_is_in_picture_pixels_a_window_pixel(scale: float) -> None:
    ramp = torch.arange(0, 240, 4, dtype=torch.uint8).expand(1, 1, 20, 60)

    seen = crop_windows(resident(ramp), window(10, 30, scale=scale), (4, 12))

    steps = 255 * seen.diff(dim=3)
    torch.testing.assert_close(steps, torch.full_like(steps, 4 * scale), atol=1e-3, rtol=0)


def test_many_windows_are_each_what_they_are_alone() -> None:
    pictures = random_pictures(4, 3, 20, 30)
    each = [
        window(8.5, 12.5, picture=3),
        window(8.5, 12.5, degrees=20, picture=1),
        window(8.5, 11.5, mirrored=True, picture=0),
        window(7, 9, scale=1.3, mirrored=True, picture=2),
    ]

    for order in ([0, 1, 2, 3], [3, 1, 1], [0, 2], [1, 3]):
        seen = crop_windows(resident(pictures), take(together(*each), torch.tensor(order)), (8, 10))

        alone = torch.cat(
            [crop_windows(resident(pictures), each[index], (8, 10)) for index in order]
        )
        torch.testing.assert_close(seen, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("degrees", [0.0, 33.0])
def test_shape_dtype_and_range(degrees: float) -> None:
    pictures = random_pictures(2, 1, 20, 30)
    before = pictures.clone()

    seen = crop_windows(resident(pictures), window(3, 4, degrees), (12, 7))

    assert seen.shape == (1, 1, 12, 7)
    assert seen.dtype == torch.float32
    assert 0 <= float(seen.min()) < float(seen.max()) <= 1
    assert torch.equal(pictures, before)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (40, 1), (-150, 1), (0, 0.7), (75, 1.3)])
def test_a_dot_is_seen_where_it_is_located(degrees: float, scale: float, mirrored: bool) -> None:
    place = 25, 37
    rows, columns = torch.meshgrid(torch.arange(50.0), torch.arange(70.0), indexing="ij")
    dot = torch.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / 8)
    picture, size = (255 * dot).round().to(torch.uint8)[None, None], (40, 48)
    windows = window(27.5, 32.5, degrees, scale, mirrored)

    row, column = locate(windows, *(torch.tensor([float(each)]) for each in place), size)

    seen = crop_windows(resident(picture), windows, size)[0, 0]
    weight = seen / seen.sum()
    assert float((weight.sum(1) * torch.arange(40)).sum()) == pytest.approx(float(row), abs=0.05)
    assert float((weight.sum(0) * torch.arange(48)).sum()) == pytest.approx(float(column), abs=0.05)


def test_the_centre_of_a_window_is_its_middle() -> None:
    windows = window(11, 17.25, degrees=50, scale=0.8, mirrored=True)

    row, column = locate(windows, windows.rows, windows.columns, (9, 14))

    assert (float(row), float(column)) == (4, 6.5)


def test_places_beyond_the_window_are_located_too() -> None:
    row, column = locate(window(10, 10), torch.tensor([0.0]), torch.tensor([30.0]), (5, 5))

    assert (float(row), float(column)) == (-8, 22)
