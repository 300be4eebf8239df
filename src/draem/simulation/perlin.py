"""Perlin noise, evaluated straight at rotated coordinates.

Source:
    Perlin, "An Image Synthesizer", SIGGRAPH 1985, with the quintic fade of "Improving Noise",
    SIGGRAPH 2002, and the scale of sqrt(2) of the published DRAEM code.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from draem.simulation.batch_indexing import in_parts


def rotated_axes(
    height: int, width: int, degrees: Tensor, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """How far from the centre the rows and columns of a rotated image look; a pixel adds both.

    Args:
        height: Rows.
        width: Columns.
        degrees: (batch,) rotation about the picture's centre, anticlockwise.
        dtype: Of the result.

    Returns:
        (2, batch, height, 1) and (2, batch, 1, width): rows and columns in pixels.
    """
    radians = torch.deg2rad(degrees.to(dtype))[:, None, None]
    rows = torch.arange(height, device=degrees.device, dtype=dtype)[None, :, None]
    columns = torch.arange(width, device=degrees.device, dtype=dtype)[None, None, :]
    rows, columns = rows - (height - 1) / 2, columns - (width - 1) / 2
    cosine, sine = radians.cos(), radians.sin()
    down = torch.stack((cosine * rows, -sine * rows))
    right = torch.stack((sine * columns, cosine * columns))
    return down, right


def uniform_angles(batch: int, finest_cells: int, generator: torch.Generator) -> Tensor:
    """Gradient directions for `perlin_field`, enough to rotate a square without repeating them.

    Returns:
        (batch, R, C) radians in [0, 2 pi).
    """
    # Rotated by 45 degrees a square looks sqrt(2) times as far along each axis.
    nodes = math.ceil(finest_cells * math.sqrt(2)) + 2
    return 2 * math.pi * torch.rand(batch, nodes, nodes, generator=generator)


def perlin_noise(rows: Tensor, columns: Tensor, angles: Tensor) -> Tensor:
    """Perlin noise at any lattice coordinates.

    Args:
        rows: (batch, height, width) lattice coordinates; one unit is one lattice cell.
        columns: (batch, height, width) lattice coordinates.
        angles: (batch, R, C) direction of the gradient at each lattice node, in radians. Nodes
            beyond the table repeat it.

    Returns:
        (batch, height, width) in about [-1, 1], zero at every lattice node.
    """
    places = torch.stack((rows, columns))
    nodes = places.floor()
    places.sub_(nodes)
    count = nodes.new_tensor(angles.shape[1:]).view(2, 1, 1, 1)
    nodes.sub_(nodes.div(count).floor_().mul_(count))
    return _noise(places, nodes, _nodes(angles, (0, angles.shape[1] - 1), (0, angles.shape[2] - 1)))


def perlin_field(
    size: tuple[int, int],
    cells: Tensor,
    degrees: Tensor,
    angles: Tensor,
    *,
    zero_outside: bool = False,
) -> Tensor:
    """One rotated noise picture per batch row.

    Args:
        size: Height and width in pixels.
        cells: (batch, 2) lattice cells over the height and over the width, on the CPU.
        degrees: (batch,) rotation of the noise about the picture's centre.
        angles: (batch, R, C) gradient directions in radians, on the device of the result.
        zero_outside: What the rotation brings in from beyond the picture is 0, as in the published
            code, which rotates the finished picture; otherwise the noise goes on there.

    Returns:
        (batch, height, width) in about [-1, 1].
    """
    device = angles.device
    down, right = rotated_axes(*size, degrees.to(device))
    middle = down.new_tensor([(side - 1) / 2 for side in size]).view(2, 1, 1, 1)
    scale = (cells / torch.tensor(size)).T[:, :, None, None].to(device)
    rows, columns = _reach(size, cells)
    first = down.new_tensor([rows[0], columns[0]]).view(2, 1, 1, 1)
    gradients = _nodes(angles, rows, columns)
    field = down.new_empty(len(cells), *size)
    for part, band in product(
        in_parts(len(cells), size[0] * size[1], device), in_parts(size[0], size[1], device)
    ):
        places = (down[:, part, band] + right[:, part]).add_(middle)
        inside = _inside(places, 2 * middle) if zero_outside else None
        places.mul_(scale[:, part])
        nodes = places.floor()
        noise = _noise(places.sub_(nodes), nodes.sub_(first), gradients[:, :, :, part])
        field[part, band] = noise if inside is None else noise.mul_(inside)
    return field


def _reach(size: tuple[int, int], cells: Tensor) -> list[tuple[int, int]]:
    """The lowest and highest node, along rows and columns, whose cell any turn can show."""
    reach = math.hypot(size[0] - 1, size[1] - 1) / 2 + 0.1  # rounding must not leave it
    scales = [most / side for most, side in zip(cells.amax(0).tolist(), size, strict=True)]
    middles = [(side - 1) / 2 for side in size]
    return [
        (math.floor((middle - reach) * scale), math.floor((middle + reach) * scale))
        for middle, scale in zip(middles, scales, strict=True)
    ]


def _inside(places: Tensor, last: Tensor) -> Tensor:
    """1 for a place within the picture, else 0, (batch, height, width)."""
    # As numbers, because torch compares into bool many times slower on a CPU.
    inside = places.clamp(torch.zeros_like(last), last).eq_(places)
    return inside[0].mul_(inside[1])


def _nodes(angles: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """The gradients at the corners of the cells from the first to the last of rows and columns.

    Returns:
        (2, 2, 2, batch, cells along rows, cells along columns): the gradient's part along rows and
        columns; at the top and bottom; left and right.
    """
    for axis, (first, last) in ((1, rows), (2, columns)):
        nodes = torch.arange(first, last + 2, device=angles.device)
        angles = angles.index_select(axis, nodes.remainder_(angles.shape[axis]))
    left = torch.stack((angles.cos(), angles.sin()))
    top = torch.stack((left[..., :-1], left[..., 1:]), dim=1)
    return torch.stack((top[..., :-1, :], top[..., 1:, :]), dim=1)


def _noise(offsets: Tensor, nodes: Tensor, gradients: Tensor) -> Tensor:
    """The noise inside cells.

    A CPU spends its time here on moving memory: so the four corners of a cell share one index,
    whole numbers stay floats until then, and what is there is written over.

    Args:
        offsets: (2, batch, height, width) rows and columns from the cell's first corner, in [0, 1).
        nodes: (2, batch, height, width) row and column of the cell, counted from 0.
        gradients: From `_nodes`.
    """
    width = gradients.shape[-1]
    index = torch.add(nodes[1], nodes[0], alpha=width).int().long().flatten(1)
    tables = gradients.flatten(4).flatten(0, 2)  # (8, batch, cells)
    found = tables.gather(2, index.expand(8, -1, -1)).view(2, 2, 2, *offsets.shape[1:])

    (down, right), (up, left) = offsets, offsets - 1
    found[0, 0].mul_(down)
    found[0, 1].mul_(up)
    found[1, :, 0].mul_(right)
    found[1, :, 1].mul_(left)
    slopes = found[0].add_(found[1])  # (2, 2, batch, height, width)
    down, right = _fade(offsets)
    edges = torch.lerp(slopes[:, 0], slopes[:, 1], right)  # (2, batch, height, width)
    return torch.lerp(edges[0], edges[1], down).mul_(math.sqrt(2))


def _fade(t: Tensor) -> Tensor:
    rising = (t * 6).sub_(15).mul_(t).add_(10)
    return (t * t).mul_(t).mul_(rising)
