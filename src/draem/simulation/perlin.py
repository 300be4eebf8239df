"""Perlin noise, evaluated straight at rotated coordinates.

Source:
    Perlin, "An Image Synthesizer", SIGGRAPH 1985, with the quintic fade of "Improving Noise",
    SIGGRAPH 2002, and the scale of sqrt(2) of the published DRAEM code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pixel_grid(
    height: int, width: int, degrees: Tensor, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Where each pixel of a rotated picture looks in the picture that was not rotated.

    Args:
        height: Rows.
        width: Columns.
        degrees: (batch,) rotation about the picture's centre, anticlockwise.
        dtype: Of the result.

    Returns:
        Rows and columns, each (batch, height, width) in pixels, pixel centres at whole numbers.
    """
    radians = torch.deg2rad(degrees.to(dtype))[:, None, None]
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    rows = torch.arange(height, device=degrees.device, dtype=dtype)[None, :, None] - middle_row
    columns = torch.arange(width, device=degrees.device, dtype=dtype)[None, None, :] - middle_column
    cosine, sine = radians.cos(), radians.sin()
    return (
        cosine * rows + sine * columns + middle_row,
        cosine * columns - sine * rows + middle_column,
    )


def perlin_noise(rows: Tensor, columns: Tensor, angles: Tensor) -> Tensor:
    """Perlin noise at any lattice coordinates.

    Args:
        rows: (batch, height, width) lattice coordinates; one unit is one lattice cell.
        columns: Likewise.
        angles: (batch, R, C) direction of the gradient at each lattice node, in radians. Nodes
            beyond the table repeat it.

    Returns:
        (batch, height, width) in about [-1, 1], zero at every lattice node.
    """
    row_floor, column_floor = rows.floor(), columns.floor()
    v, u = rows - row_floor, columns - column_floor
    height, width = angles.shape[1:]
    top = row_floor.long() % height
    left = column_floor.long() % width
    bottom = (top + 1) % height
    right = (left + 1) % width
    gradients = torch.stack((angles.cos(), angles.sin())).flatten(2)  # (2, batch, R * C)

    def ramp(row: Tensor, column: Tensor, v_offset: Tensor, u_offset: Tensor) -> Tensor:
        node = (row * width + column).flatten(1)  # (batch, height * width)
        along_rows, along_columns = (part.gather(1, node).view_as(rows) for part in gradients)
        return along_rows * v_offset + along_columns * u_offset

    fade_v, fade_u = _fade(v), _fade(u)
    upper = torch.lerp(ramp(top, left, v, u), ramp(top, right, v, u - 1), fade_u)
    lower = torch.lerp(ramp(bottom, left, v - 1, u), ramp(bottom, right, v - 1, u - 1), fade_u)
    noise: Tensor = math.sqrt(2) * torch.lerp(upper, lower, fade_v)
    return noise


def perlin_field(
    size: tuple[int, int],
    cells: Tensor,
    degrees: Tensor,
    angles: Tensor,
    *,
    zero_outside: bool = False,
) -> Tensor:
    """One rotated noise picture a batch row.

    Args:
        size: Height and width in pixels.
        cells: (batch, 2) lattice cells over the height and over the width.
        degrees: (batch,) rotation of the noise about the picture's centre.
        angles: (batch, R, C) gradient directions in radians.
        zero_outside: What the rotation brings in from beyond the picture is 0, as in the published
            code, which rotates the finished picture; otherwise the noise goes on there.

    Returns:
        (batch, height, width) in about [-1, 1].
    """
    height, width = size
    rows, columns = pixel_grid(height, width, degrees)
    noise = perlin_noise(
        rows * (cells[:, :1, None] / height), columns * (cells[:, 1:, None] / width), angles
    )
    if zero_outside:
        inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
        noise = torch.where(inside, noise, 0.0)
    return noise


def _fade(t: Tensor) -> Tensor:
    return t * t * t * (t * (t * 6 - 15) + 10)
