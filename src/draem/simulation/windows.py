"""Windows into images: cropped, turned, enlarged and mirrored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from draem.simulation.batch_indexing import put, take
from draem.simulation.device_images import DeviceImages

_COARSE = 2
"""From this scale on, pixels between the sampled ones would be skipped; they are averaged."""


@dataclass(frozen=True, slots=True)
class Windows:
    """One window per row, each into one of many pictures.

    Attributes:
        pictures: (batch,) index of the picture.
        rows: (batch,) the window's centre in the picture, in pixels; if the window is neither
            turned nor scaled, its pixels' centres fall on those of the picture.
        columns: (batch,) the same along the columns.
        degrees: (batch,) how far what is seen is turned, anticlockwise.
        scale: (batch,) picture pixels per window pixel; below 1 enlarges.
        mirrored: (batch,) whether left and right change places.
    """

    pictures: Tensor
    rows: Tensor
    columns: Tensor
    degrees: Tensor
    scale: Tensor
    mirrored: Tensor


def crop_windows(images: DeviceImages, windows: Windows, size: tuple[int, int]) -> Tensor:
    """What is seen through windows, with bilinear interpolation, mirrored beyond the border.

    Args:
        images: The images that the windows look into.
        windows: Where to look, on the CPU or on the device of the images.
        size: Height and width of the windows in pixels.

    Returns:
        (batch, channels, *size) float32 in [0, 1], on the device of the images.
    """
    coarse = windows.scale >= _COARSE
    if coarse.any():
        return _crop_coarse(images, windows, size, coarse)
    straight = (windows.degrees == 0) & (windows.scale == 1)
    if straight.all():
        return _seen(_crop_straight, images, windows, size)
    shape = (len(straight), images.shape[1], *size)
    seen = torch.empty(shape, dtype=torch.float32, device=images.device)
    for cutter, chosen in ((_crop_straight, straight), (_crop_turned, ~straight)):
        rows = chosen.nonzero()[:, 0]
        if len(rows):
            cutting = _seen(cutter, images, take(windows, rows), size)
            put(seen, rows.to(seen.device), cutting)
    return seen


def _seen(
    cutter: Callable[[Tensor, Windows, tuple[int, int]], Tensor],
    images: DeviceImages,
    windows: Windows,
    size: tuple[int, int],
) -> Tensor:
    if images.stored is not None and (
        images.stored.device == images.device or cutter is _crop_straight
    ):
        # Where the images are, so that no more of each than the window is moved.
        return cutter(images.stored, windows, size).to(images.device)
    fetched = dataclasses.replace(windows, pictures=torch.arange(len(windows.pictures)))
    return cutter(images.take(windows.pictures), fetched, size)


def _crop_coarse(
    images: DeviceImages, windows: Windows, size: tuple[int, int], coarse: Tensor
) -> Tensor:
    """As `crop_windows`; windows at half the resolution average pixels instead of skipping them."""
    shape = (len(coarse), images.shape[1], *size)
    seen = torch.empty(shape, dtype=torch.float32, device=images.device)
    if len(fine := (~coarse).nonzero()[:, 0]):
        put(seen, fine.to(seen.device), crop_windows(images, take(windows, fine), size))
    rows = coarse.nonzero()[:, 0]
    chosen = take(windows, rows)
    closer = dataclasses.replace(chosen, scale=chosen.scale / 2)
    twice = crop_windows(images, closer, (2 * size[0], 2 * size[1]))
    put(seen, rows.to(seen.device), torch.nn.functional.avg_pool2d(twice, 2))
    return seen


def _crop_straight(pictures: Tensor, windows: Windows, size: tuple[int, int]) -> Tensor:
    """Windows that are neither turned nor scaled: pixels as they are, and several times faster."""
    device = pictures.device
    down, right = _from_centre(size, device)
    right = torch.where(windows.mirrored.to(device)[:, None, None], -right, right)
    rows = (windows.rows.to(device)[:, None, None] + down).round().long()
    columns = (windows.columns.to(device)[:, None, None] + right).round().long()
    rows, columns = _reflected(rows, pictures.shape[2]), _reflected(columns, pictures.shape[3])
    numbers = windows.pictures.to(device)
    if device.type != "cpu":
        return (
            pictures.movedim(1, 3)[numbers[:, None, None], rows, columns].movedim(3, 1).float()
            / 255
        )
    # Rows, then columns, is quicker here than each pixel by three indices.
    seen = torch.stack(
        [
            _rectangle(pictures[number], rows[place, :, 0], columns[place, 0])
            for place, number in enumerate(numbers.tolist())
        ]
    )
    return seen.float().div_(255)


def _rectangle(picture: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Some rows and columns of a (channels, height, width) picture on the CPU."""
    picture = picture.index_select(1, rows)
    first, last = int(columns[0]), int(columns[-1])
    # If nothing is reflected the columns are a stretch of the picture.
    if abs(last - first) == len(columns) - 1:
        low = min(first, last)
        picture = picture[:, :, low : low + len(columns)]
        return picture if first <= last else picture.flip(2)
    return picture.index_select(2, columns)


def _reflected(places: Tensor, length: int) -> Tensor:
    """Places beyond the border, seen in a mirror at the outermost pixels."""
    last = max(length - 1, 1)
    return (last - (places % (2 * last) - last).abs()).clamp(max=length - 1)


def _crop_turned(pictures: Tensor, windows: Windows, size: tuple[int, int]) -> Tensor:
    device = pictures.device
    height, width = pictures.shape[2:]
    down, right = _from_centre(size, device)
    cosine, sine = _turn(windows, device)
    sideways = torch.where(windows.mirrored, -windows.scale, windows.scale).to(device)
    down = down * windows.scale.to(device)[:, None, None]
    right = right * sideways[:, None, None]
    # Columns and rows, added as complex numbers, because they stand side by side in memory.
    seen = torch.complex(-sine * down, cosine * down) + torch.complex(cosine * right, sine * right)
    centres = torch.stack((windows.columns, windows.rows), dim=1).to(device)
    sides = torch.tensor([width - 1.0, height - 1.0], device=device)
    # Coordinates are -1 and 1 at the centres of the outermost pixels.
    grid = torch.view_as_real(seen).add_(centres.repeat(1, size[1]).view(-1, 1, size[1], 2))
    grid.mul_((2 / sides).repeat(size[1], 1)).sub_(1)  # (batch, height, width, 2)
    return torch.nn.functional.grid_sample(
        pictures.index_select(0, windows.pictures.to(device)).float().div_(255),
        grid,
        mode="bilinear",
        padding_mode="reflection",
        align_corners=True,
    ).clamp_(0, 1)


def locate(
    windows: Windows, rows: Tensor, columns: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Where a place of each picture appears in its window.

    Args:
        windows: The windows.
        rows: (batch,) the place in the picture, in pixels.
        columns: (batch,) the same along the columns.
        size: Height and width of the windows in pixels.

    Returns:
        Rows and columns in the window, each (batch,) in pixels; outside the window, perhaps.
    """
    radians = torch.deg2rad(windows.degrees)
    down, right = rows - windows.rows, columns - windows.columns
    sideways = torch.where(windows.mirrored, -windows.scale, windows.scale)
    in_rows = (radians.cos() * down - radians.sin() * right) / windows.scale
    in_columns = (radians.cos() * right + radians.sin() * down) / sideways
    return in_rows + (size[0] - 1) / 2, in_columns + (size[1] - 1) / 2


def _from_centre(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    down = torch.arange(size[0], device=device, dtype=torch.float32) - (size[0] - 1) / 2
    right = torch.arange(size[1], device=device, dtype=torch.float32) - (size[1] - 1) / 2
    return down[None, :, None], right[None, None, :]


def _turn(windows: Windows, device: torch.device) -> tuple[Tensor, Tensor]:
    radians = torch.deg2rad(windows.degrees).to(device)[:, None, None]
    return radians.cos(), radians.sin()
