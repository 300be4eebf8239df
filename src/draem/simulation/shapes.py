"""Shapes of simulated anomalies: spread fields, compact blobs, thin lines.

Each is given by its distance to the outline in pixels, positive inside, so that any of them can
have a hard or a soft edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from draem.simulation.perlin import perlin_noise

SHAPES = ("field", "blob", "line")
_NODES = 32
_FAR = 64.0


@dataclass(frozen=True, slots=True)
class Shapes:
    """The parameters of one shape a row; lengths in pixels.

    Attributes:
        kind: (batch,) index into `SHAPES`.
        rows: (batch,) where the middle of a blob or line lies.
        columns: Likewise.
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
        offset: (batch,) where in the noise the shape lies.
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


def draw_shapes(
    weights: tuple[float, ...],
    rows: Tensor,
    columns: Tensor,
    threshold: tuple[float, float],
    size: tuple[int, int],
    generator: torch.Generator,
) -> Shapes:
    """Draw one shape a place.

    Args:
        weights: How often each of `SHAPES` comes, in any unit.
        rows: (batch,) where blobs and lines lie, in pixels.
        columns: Likewise.
        threshold: Range of the level at which a field's noise becomes a mask.
        size: Height and width of the window in pixels.
        generator: On the CPU.
    """
    batch, side = len(rows), min(size)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    def spread(low: float, high: float) -> Tensor:
        """Evenly over orders of magnitude; lengths that are given for a side of 128 pixels."""
        return torch.exp(uniform(math.log(low), math.log(high))) * (side / 128)

    finest = max(0, int(math.log2(side / 8)))
    soft = uniform(0, 1) < 0.3
    return Shapes(
        kind=torch.multinomial(
            torch.tensor(weights, dtype=torch.float32), batch, True, generator=generator
        ),
        rows=rows,
        columns=columns,
        degrees=uniform(0, 360),
        cells=2.0 ** torch.randint(finest + 1, (batch, 2), generator=generator),
        threshold=uniform(*threshold),
        radius=spread(2.5, 32),
        stretch=torch.exp(uniform(0, math.log(3))),
        length=spread(8, 110),
        thickness=spread(0.8, 5),
        wave=spread(8, 60),
        winding=uniform(0, 0.35),
        softness=uniform(0, 1) * soft,
        offset=uniform(0, 8),
        angles=2 * math.pi * torch.rand(batch, _NODES, _NODES, generator=generator),
    )


def shape_weights(shapes: Shapes, size: tuple[int, int]) -> Tensor:
    """How far each pixel belongs to the shape.

    Args:
        shapes: What to draw.
        size: Height and width of the window in pixels.

    Returns:
        (batch, height, width) float32 in [0, 1]: 1 inside, 0 outside, a ramp over the edge.
    """
    along, across = _axes(shapes, size)
    blob, line = (_column(shapes.kind) == SHAPES.index(name) for name in ("blob", "line"))
    radius, wave = _column(shapes.radius), _column(shapes.wave)
    field_cell = [_column(side / shapes.cells[:, axis]) for axis, side in enumerate(size)]
    own = torch.where(blob, radius, wave)
    cell_along, cell_across = (torch.where(blob | line, own, cell) for cell in field_cell)
    offset = _column(shapes.offset) + _FAR
    noise = perlin_noise(along / cell_along + offset, across / cell_across + offset, shapes.angles)

    stretch = _column(shapes.stretch).sqrt()
    reach = torch.sqrt((along / stretch) ** 2 + (across * stretch) ** 2) / radius
    to_blob = (1 - reach + 0.6 * noise) * radius

    half, end = _column(shapes.thickness) / 2, _column(shapes.length) / 2
    to_end = 1 - along.abs() / end
    away = (across + _column(shapes.winding) * wave * noise).abs()
    to_line = torch.minimum(half * (2 * to_end).clamp(max=1) - away, to_end * end)

    # Noise climbs by about two of its units over a cell.
    steepness = 1 / (1 / field_cell[0] + 1 / field_cell[1])
    to_field = (noise - _column(shapes.threshold)) * steepness

    distance = torch.where(blob, to_blob, torch.where(line, to_line, to_field))
    widest = torch.where(blob, radius, torch.where(line, 2 * half, 3.0))
    edge = 1 + _column(shapes.softness) * widest
    return (distance / edge + 0.5).clamp(0, 1)


def _axes(shapes: Shapes, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    device = shapes.rows.device
    down = torch.arange(size[0], device=device)[None, :, None] - _column(shapes.rows)
    right = torch.arange(size[1], device=device)[None, None, :] - _column(shapes.columns)
    radians = _column(torch.deg2rad(shapes.degrees))
    cosine, sine = radians.cos(), radians.sin()
    return cosine * right + sine * down, cosine * down - sine * right


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]
