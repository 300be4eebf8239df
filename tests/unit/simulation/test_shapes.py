from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from draem.simulation.batch_indexing import move, take
from draem.simulation.shapes import SHAPES, Shapes, sample_shapes, shape_weights

ONLY = {
    name: tuple(float(index == own) for index in range(len(SHAPES)))
    for own, name in enumerate(SHAPES)
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(
    name: str, count: int = 4, size: tuple[int, int] = (48, 64), seed: int = 0, **values: float
) -> Shapes:
    """Shapes of one kind in the middle of the window, with some of their values given."""
    middle = [torch.full((count,), float(side // 2)) for side in size]
    shapes = sample_shapes(ONLY[name], *middle, (0.2, 0.6), size, generator(seed))
    return replace(shapes, **{key: torch.full((count,), value) for key, value in values.items()})


def reach(shapes: Shapes, size: tuple[int, int]) -> Tensor:
    """How far each pixel is from the shape's middle."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    return torch.hypot(rows - shapes.rows[:, None, None], columns - shapes.columns[:, None, None])


@pytest.mark.parametrize("name", SHAPES)
def test_weights_for_one_shape_draw_it_alone(name: str) -> None:
    assert SHAPES[int(drawn(name, 50).kind.unique())] == name


def test_shapes_come_as_often_as_weighed() -> None:
    place = torch.zeros(3000)

    kind = sample_shapes((1, 3, 4), place, place, (0.2, 0.6), (48, 64), generator()).kind

    shares = torch.bincount(kind, minlength=3) / 3000
    torch.testing.assert_close(shares, torch.tensor([1, 3, 4]) / 8, atol=0.03, rtol=0)


def test_lengths_grow_with_the_window() -> None:
    small, large = (drawn("line", 20, size) for size in ((48, 64), (96, 200)))

    for length in ("radius", "length", "thickness", "wave"):
        torch.testing.assert_close(getattr(large, length), 2 * getattr(small, length))
    torch.testing.assert_close(large.stretch, small.stretch)


def test_values_keep_to_their_ranges() -> None:
    shapes = drawn("blob", 1500, (128, 128))

    for name, low, high in [
        ("threshold", 0.2, 0.6),
        ("degrees", 0, 360),
        ("radius", 2.5, 32),
        ("stretch", 1, 3),
        ("length", 8, 110),
        ("thickness", 0.8, 5),
        ("softness", 0, 1),
    ]:
        values = getattr(shapes, name)
        margin = 0.02 * (high - low)
        assert low - 1e-4 <= float(values.min()) < low + margin
        assert high - margin < float(values.max()) <= high + 1e-4
    assert float((shapes.softness == 0).float().mean()) == pytest.approx(0.7, abs=0.04)
    assert sorted(shapes.cells.unique().tolist()) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", [(48, 64), (40, 24), (6, 7)])
def test_weights_have_the_windows_size_and_are_shares(name: str, size: tuple[int, int]) -> None:
    weights = shape_weights(drawn(name, 5, size), size)

    assert weights.shape == (5, *size)
    assert weights.dtype == torch.float32
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1


def test_shapes_are_a_function_of_the_generator() -> None:
    first, again, other = (shape_weights(drawn("blob", seed=seed), (48, 64)) for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mixed_shapes_are_each_what_they_are_alone() -> None:
    place = torch.tensor([10.0, 20, 30, 25, 15, 40])
    shapes = sample_shapes((1, 1, 1), place, place, (0.1, 0.3), (48, 64), generator(3))

    together = shape_weights(shapes, (48, 64))

    assert len(shapes.kind.unique()) == 3
    for row in range(6):
        alone = shape_weights(take(shapes, torch.tensor([row])), (48, 64))
        torch.testing.assert_close(alone[0], together[row])


def test_moving_keeps_every_value() -> None:
    shapes = drawn("line")

    moved = move(shapes, torch.device("cpu"))

    assert all(
        torch.equal(getattr(moved, name), getattr(shapes, name)) for name in Shapes.__slots__
    )


def test_a_blob_reaches_as_far_as_its_radius_and_the_noise() -> None:
    # Noise lies within [-1, 1], and moves the outline by up to 0.6 of the radius.
    shapes = drawn("blob", 30, radius=12.0, stretch=1.0, softness=0.0)

    weights = shape_weights(shapes, (48, 64))

    away = reach(shapes, (48, 64))
    assert bool((weights[away < 0.4 * 12 - 0.5] == 1).all())
    assert bool((weights[away > 1.6 * 12 + 0.5] == 0).all())
    areas = weights.sum((1, 2))
    assert float(areas.mean()) == pytest.approx(math.pi * 12**2, rel=0.15)
    assert float(areas.std()) > 10


@pytest.mark.parametrize("degrees", [0.0, 30.0, 100.0])
def test_a_stretched_blob_lies_along_its_angle(degrees: float) -> None:
    shapes = drawn("blob", 60, radius=8.0, stretch=3.0, degrees=degrees, softness=0.0)

    moments = cv2.moments(shape_weights(shapes, (48, 64)).mean(0).numpy())

    lies = 0.5 * math.atan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"])
    apart = (math.degrees(lies) - degrees + 90) % 180 - 90
    assert apart == pytest.approx(0, abs=6)


def test_a_stretched_blob_keeps_its_area() -> None:
    areas = [
        float(
            shape_weights(drawn("blob", 60, radius=7.0, stretch=stretch, softness=0.0), (48, 64))
            .sum((1, 2))
            .mean()
        )
        for stretch in (1.0, 3.0)
    ]

    assert areas[1] == pytest.approx(areas[0], rel=0.15)


@pytest.mark.parametrize("degrees", [0.0, 45.0, 110.0, 300.0])
def test_a_line_that_does_not_wind_is_a_tapered_bar(degrees: float) -> None:
    length, thickness = 36.0, 5.0
    shapes = drawn(
        "line", 1, degrees=degrees, length=length, thickness=thickness, winding=0.0, softness=0.0
    )

    weights = shape_weights(shapes, (48, 64))[0].numpy()

    # Half as long at full thickness, then ever thinner.
    outline = [(-1, 0), (-0.5, -1), (0.5, -1), (1, 0), (0.5, 1), (-0.5, 1)]
    bar = np.array([(x * length / 2, y * thickness / 2) for x, y in outline])
    radians = math.radians(degrees)
    turn = np.array(
        [[math.cos(radians), math.sin(radians)], [-math.sin(radians), math.cos(radians)]]
    )
    corners = 16 * (bar @ turn + (32, 24))  # in sixteenths of a pixel
    canvas = np.zeros((48 * 4, 64 * 4), np.uint8)
    finer = np.round(4 * corners + 16 * 1.5).astype(np.int32)  # four times as fine, on both sides
    cv2.fillConvexPoly(canvas, finer, 255, shift=4)
    expected = cv2.resize(canvas, (64, 48), interpolation=cv2.INTER_AREA) / 255
    assert np.abs(weights - expected).sum() < 0.12 * expected.sum()
    assert weights.sum() == pytest.approx(expected.sum(), rel=0.08)


@pytest.mark.parametrize("softness", [0.0, 0.5, 1.0])
def test_softness_spreads_the_edge_over_the_thickness(softness: float) -> None:
    thickness = 6.0
    shapes = drawn(
        "line", 1, degrees=0.0, length=60, thickness=thickness, winding=0.0, softness=softness
    )

    across = shape_weights(shapes, (48, 64))[0, :, 32]

    away = (torch.arange(48) - 24).abs()
    expected = ((thickness / 2 - away) / (1 + softness * thickness) + 0.5).clamp(0, 1)
    torch.testing.assert_close(across, expected)
    blurred = int(((across > 0) & (across < 1)).sum())
    assert blurred == {0.0: 2, 0.5: 6, 1.0: 13}[softness]


@pytest.mark.parametrize("name", SHAPES)
def test_a_soft_edge_keeps_the_outline(name: str) -> None:
    hard, soft = (
        shape_weights(drawn(name, 20, softness=softness), (48, 64)) for softness in (0.0, 1.0)
    )

    torch.testing.assert_close(soft > 0.5, hard > 0.5)
    between = [float(((each > 0) & (each < 1)).float().mean()) for each in (hard, soft)]
    assert between[1] > 1.5 * between[0]


def test_winding_bends_a_line() -> None:
    straight, winding = (
        shape_weights(
            drawn("line", 20, degrees=0.0, length=60.0, thickness=2.0, wave=12.0, winding=winding),
            (48, 64),
        )
        for winding in (0.0, 0.35)
    )

    def height(weights: Tensor) -> Tensor:
        return (weights.amax(2) > 0.4).float().sum(1)

    assert float(height(straight).max()) <= 3
    assert float(height(winding).mean()) > 5


@pytest.mark.parametrize(("threshold", "weight"), [(-3.0, 1.0), (3.0, 0.0)])
def test_a_field_covers_everything_or_nothing_in_the_limit(threshold: float, weight: float) -> None:
    weights = shape_weights(drawn("field", threshold=threshold, softness=0.0), (48, 64))

    assert bool((weights == weight).all())


def test_a_field_shrinks_as_its_threshold_grows() -> None:
    fields = [
        shape_weights(drawn("field", 10, threshold=threshold, softness=0.0), (48, 64))
        for threshold in (-0.2, 0.0, 0.2, 0.5)
    ]

    for larger, smaller in pairwise(fields):
        assert bool((smaller <= larger).all())
    assert float((fields[1] > 0.5).float().mean()) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("name", ["blob", "line"])
def test_compact_shapes_follow_their_place(name: str) -> None:
    shapes = drawn(name, 6, radius=6.0, length=20.0, thickness=3.0, softness=0.0)
    moved = replace(shapes, rows=shapes.rows - 5, columns=shapes.columns + 9)

    expected = shape_weights(shapes, (48, 64)).roll((-5, 9), (1, 2))
    torch.testing.assert_close(shape_weights(moved, (48, 64)), expected, atol=1e-4, rtol=0)
