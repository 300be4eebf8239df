"""Shapes of simulated anomalies: spread fields, compact blobs, thin lines.

Each is given by its distance to the outline in pixels, positive inside, so that any of them can
have a hard or a soft edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from draem.simulation import sampling
from draem.simulation.batch_indexing import move, put, rows_where, take
from draem.simulation.perlin import perlin_noise

SHAPES = ("field", "blob", "line")
_NODES = 32
_FAR = 64.0


@dataclass(frozen=True, slots=True)
class Shapes:
    """The parameters of one shape per row; lengths in pixels.

    Attributes:
        kind: (batch,) index into `SHAPES`.
        rows: (batch,) the middle of a blob or line.
        columns: (batch,) the same along the columns.
        degrees: (batch,) how the shape is turned.
        cells: (batch, 2) a field's noise cells along the window's sides.
        threshold: (batch,) the level at which a field's noise becomes a mask.
        radius: (batch,) of a blob.
        stretch: (batch,) how many times a blob is longer than wide.
        length: (batch,) of a line.
        thickness: (batch,) of a line.
        wave: (batch,) the length over which a line winds.
        winding: (batch,) how far it leaves its course, in waves.
        softness: (batch,) in [0, 1]; 0 is a hard edge, 1 one as soft as the shape is wide.
        offset: (batch,) where in the noise the shape is.
        angles: (batch, 32, 32) gradient directions of the noise, in radians.
    """

    kind: Tensor
    rows: Tensor
    columns: Tensor
    degrees: Tensor
    cells: Tensor
    threshold: Tensor
    radius: Tensor
    stretch: Tensor
    length: Tensor
    thickness: Tensor
    wave: Tensor
    winding: Tensor
    softness: Tensor
    offset: Tensor
    angles: Tensor


def sample_shapes(
    weights: tuple[float, ...],
    rows: Tensor,
    columns: Tensor,
    threshold: tuple[float, float],
    size: tuple[int, int],
    generator: torch.Generator,
) -> Shapes:
    """Sample one shape per place.

    Args:
        weights: How often each of `SHAPES` comes, in any unit.
        rows: (batch,) the middle of blobs and lines, in pixels.
        columns: (batch,) the same along the columns.
        threshold: Range of the level at which a field's noise becomes a mask.
        size: Height and width of the window in pixels.
        generator: On the CPU.
    """
    batch, side = len(rows), min(size)
    uniform = partial(sampling.uniform, batch, generator)

    def length(low: float, high: float) -> Tensor:
        """From a range that is given for a side of 128 pixels."""
        return sampling.log_uniform(batch, generator, low, high) * (side / 128)

    finest = max(0, int(math.log2(side / 8)))
    soft = uniform(0, 1) < 0.3
    return Shapes(
        kind=sampling.choose(weights, batch, generator),
        rows=rows,
        columns=columns,
        degrees=uniform(0, 360),
        cells=2.0 ** torch.randint(finest + 1, (batch, 2), generator=generator),
        threshold=uniform(*threshold),
        radius=length(2.5, 32),
        stretch=sampling.log_uniform(batch, generator, 1, 3),
        length=length(8, 110),
        thickness=length(0.8, 5),
        wave=length(8, 60),
        winding=uniform(0, 0.35),
        softness=uniform(0, 1) * soft,
        offset=uniform(0, 8),
        angles=2 * math.pi * torch.rand(batch, _NODES, _NODES, generator=generator),
    )


def shape_weights(
    shapes: Shapes, size: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """How far each pixel belongs to the shape.

    Args:
        shapes: What to draw, on the CPU.
        size: Height and width of the window in pixels.
        device: Where to draw it.

    Returns:
        (batch, height, width) float32 in [0, 1]: 1 inside, 0 outside, a ramp over the edge.
    """
    # One kind after the other: choosing between distances pixel by pixel takes longer.
    weights = torch.empty(len(shapes.kind), *size, device=device)
    for kind, distance in enumerate((_to_field, _to_blob, _to_line)):
        if (rows := rows_where(shapes.kind == kind)) is None:
            continue
        chosen = move(take(shapes, rows), weights.device)
        inside, width = distance(chosen, *_axes(chosen, size))
        edge = 1 + _column(chosen.softness) * width
        put(weights, rows, inside.div_(edge).add_(0.5).clamp_(0, 1))
    return weights


def _to_field(shapes: Shapes, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """How far inside a field each pixel is, and how wide a field is, in pixels."""
    cells = [_column(side / shapes.cells[:, axis]) for axis, side in enumerate(along.shape[1:])]
    noise = _noise(shapes, along, across, *cells)
    # Noise climbs by about two of its units over a cell.
    steepness = 1 / (1 / cells[0] + 1 / cells[1])
    return noise.sub_(_column(shapes.threshold)).mul_(steepness), torch.full_like(cells[0], 3.0)


def _to_blob(shapes: Shapes, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a blob."""
    radius, stretch = _column(shapes.radius), _column(shapes.stretch).sqrt()
    noise = _noise(shapes, along, across, radius, radius)
    reach = (along / stretch).square_().add_((across * stretch).square_()).sqrt_().div_(radius)
    return (1 - reach).add_(noise.mul_(0.6)).mul_(radius), radius


def _to_line(shapes: Shapes, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a line."""
    half, end, wave = (
        _column(each) for each in (shapes.thickness / 2, shapes.length / 2, shapes.wave)
    )
    noise = _noise(shapes, along, across, wave, wave)
    to_end = 1 - along.abs().div_(end)
    away = noise.mul_(_column(shapes.winding) * wave).add_(across).abs_()
    to_side = (2 * to_end).clamp_(max=1).mul_(half).sub_(away)
    return torch.minimum(to_side, to_end.mul_(end)), 2 * half


def _noise(
    shapes: Shapes, along: Tensor, across: Tensor, cell_along: Tensor, cell_across: Tensor
) -> Tensor:
    offset = _column(shapes.offset) + _FAR
    return perlin_noise(along / cell_along + offset, across / cell_across + offset, shapes.angles)


def _axes(shapes: Shapes, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    device = shapes.rows.device
    down = torch.arange(size[0], device=device)[None, :, None] - _column(shapes.rows)
    right = torch.arange(size[1], device=device)[None, None, :] - _column(shapes.columns)
    radians = _column(torch.deg2rad(shapes.degrees))
    cosine, sine = radians.cos(), radians.sin()
    return cosine * right + sine * down, cosine * down - sine * right


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]
