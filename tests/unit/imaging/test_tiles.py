from __future__ import annotations

import numpy as np
import pytest

from draem.errors import InputError
from draem.imaging.tiles import (
    at_least_a_tile,
    blend_shares,
    cut_tiles,
    join_tiles,
    mix_in,
    plan_tiles,
)

SIZES = [(64, 64), (65, 64), (40, 30), (1, 200), (200, 63), (161, 320), (250, 111)]


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("overlap", [0, 1, 16, 32])
@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_the_image_overlap_and_end_with_it(size: tuple[int, int], overlap: int) -> None:
    grid = plan_tiles(size, (64, 64), overlap)

    for starts, length in ((grid.tops, size[0]), (grid.lefts, size[1])):
        assert starts[0] == 0
        assert starts[-1] == max(length - 64, 0)
        steps = np.diff(starts)
        assert (steps > 0).all()
        assert (64 - steps >= overlap).all()
        # No more tiles than the overlap asks for.
        assert (steps[:-1] == 64 - overlap).all()
    assert grid.count == len(grid.tops) * len(grid.lefts) == len(list(grid.places()))


def test_tiles_need_not_be_square() -> None:
    grid = plan_tiles((100, 100), (32, 64), 8)

    assert grid.tops == (0, 24, 48, 68)
    assert grid.lefts == (0, 36)
    assert next(grid.places()) == (slice(0, 32), slice(0, 64))


@pytest.mark.parametrize("overlap", [-1, 17, 64])
def test_an_overlap_out_of_range_is_refused(overlap: int) -> None:
    with pytest.raises(InputError, match=f"0 to 16 pixels.*Found {overlap}"):
        plan_tiles((100, 100), (64, 32), overlap)


@pytest.mark.parametrize("size", SIZES)
def test_tiles_joined_are_the_image_again(size: tuple[int, int]) -> None:
    image, grid = picture(*size), plan_tiles(size, (64, 64), 16)
    tiles = [tile.copy() for tile in cut_tiles(image, grid)]

    assert len(tiles) == grid.count
    assert {tile.shape for tile in tiles} == {(64, 64, 3)}
    np.testing.assert_array_equal(join_tiles(tiles, grid), image)


def test_tiles_in_the_wrong_number_cannot_be_joined() -> None:
    grid = plan_tiles((100, 64), (64, 64), 16)
    with pytest.raises(ValueError, match="zip"):
        join_tiles([picture(64, 64)], grid)


def test_a_small_image_is_mirrored() -> None:
    image = picture(40, 64)

    whole = at_least_a_tile(image, (64, 64))

    np.testing.assert_array_equal(whole[:40], image)
    np.testing.assert_array_equal(whole[40:], image[38:14:-1])
    assert at_least_a_tile(image, (32, 64)) is image
    # However small it is.
    assert at_least_a_tile(picture(1, 3), (64, 64)).shape == (64, 64, 3)


@pytest.mark.parametrize("overlap", [0, 1, 16, 32])
@pytest.mark.parametrize("length", [64, 65, 113, 160, 161, 300])
def test_shares_make_the_mean_by_weights_that_sum_to_one(length: int, overlap: int) -> None:
    starts = plan_tiles((length, 64), (64, 64), overlap).tops
    shares = blend_shares(starts, 64, overlap)
    # What each tile contributes to each pixel in the end.
    parts = []
    for chosen in range(len(starts)):
        below = np.zeros(length, np.float32)
        for number, (start, share) in enumerate(zip(starts, shares, strict=True)):
            piece = np.full(64, float(number == chosen), np.float32)
            mix_in(below[start : start + 64], piece, share)
        parts.append(below)
    np.testing.assert_allclose(np.sum(parts, axis=0), 1, atol=1e-6)
    for part, start in zip(parts, starts, strict=True):
        assert (part[:start] == 0).all()
        assert (part[start + 64 :] == 0).all()
        assert (part[start : start + 64] > 0).all()
    # Where only one tile lies it counts in full, at the image's edges above all.
    assert parts[0][0] == 1
    assert parts[-1][-1] == 1


def test_two_ramps_are_squares_of_sine_and_cosine() -> None:
    first, second = blend_shares((0, 48), 64, 16)

    assert (first == 1).all()
    places = (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(second[:16], np.sin(np.pi / 2 * places) ** 2, atol=1e-7)
    assert (second[16:] == 1).all()


def test_no_step_is_larger_than_that_of_a_ramp() -> None:
    # One tile says 0 and the next 1; the last overlaps by far more than the others.
    for starts in ((0, 48), (0, 48, 49), (0, 1), (0, 48, 80)):
        for chosen in range(len(starts)):
            mixed = np.zeros(starts[-1] + 64, np.float32)
            for number, share in enumerate(blend_shares(starts, 64, 16)):
                piece = np.full(64, float(number == chosen), np.float32)
                mix_in(mixed[starts[number] : starts[number] + 64], piece, share)
            assert np.abs(np.diff(mixed)).max() < 0.2, starts


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_what_all_tiles_agree_on_stays_exactly_that(kind: type) -> None:
    values = (np.random.default_rng(0).random(161) * (1 if kind is np.float32 else 255)).astype(
        kind
    )
    starts = plan_tiles((161, 64), (64, 64), 16).tops
    mixed = np.zeros(161, kind)
    for start, share in zip(starts, blend_shares(starts, 64, 16), strict=True):
        mix_in(mixed[start : start + 64], values[start : start + 64], share)
    np.testing.assert_array_equal(mixed, values)


def test_a_mix_never_leaves_the_range_of_what_is_mixed() -> None:
    rng = np.random.default_rng(1)
    below = rng.choice([0, 1e-30, 0.1, 1 - 2**-24, 1], 100_000).astype(np.float32)
    piece = rng.choice([0, 1e-30, 0.3, 1 - 2**-24, 1], 100_000).astype(np.float32)
    mix_in(below, piece, rng.choice([1e-6, 0.5, 1 - 2**-24, 1], 100_000).astype(np.float32))
    assert below.min() >= 0
    assert below.max() <= 1


def test_whole_numbers_are_rounded() -> None:
    below = np.array([10, 10], np.uint8)
    mix_in(below, np.array([20, 21], np.float32), np.array([0.26, 0.5], np.float32))
    assert below.tolist() == [13, 16]
