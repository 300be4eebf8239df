from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from draem.simulation.augment import UPSTREAM_OPERATIONS, sample_plan
from draem.simulation.batch_indexing import take
from draem.simulation.device_images import resident
from draem.simulation.fills import FILLS, Fills, fill, sample_fills
from draem.simulation.windows import Windows, crop_windows

SIZE = (24, 32)
ONLY = {
    name: tuple(float(index == own) for index in range(len(FILLS)))
    for own, name in enumerate(FILLS)
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pictures(count: int, size: tuple[int, int] = (40, 52), seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, *size), generator=generator(seed), dtype=torch.uint8)


def windows(count: int, pictures: int = 5) -> Windows:
    """Straight windows at many places of pictures of (40, 52)."""
    at = torch.arange(count)
    return Windows(
        pictures=at % pictures,
        rows=at * 5 % 17 + (SIZE[0] - 1) / 2,
        columns=at * 7 % 21 + (SIZE[1] - 1) / 2,
        degrees=torch.zeros(count),
        scale=torch.ones(count),
        mirrored=torch.zeros(count, dtype=torch.bool),
    )


def drawn(
    weights: tuple[float, ...], count: int = 8, seed: int = 0, seen: Windows | None = None
) -> Fills:
    seen = windows(count) if seen is None else seen
    return sample_fills(weights, seen, (5, 40, 52), (3, 30, 30), SIZE, generator(seed))


def filled(
    fills: Fills,
    *,
    normal: Tensor | None = None,
    pictures: Tensor | None = None,
    textures: Tensor | None = None,
    grey: bool = False,
) -> Tensor:
    count = len(fills.kind)
    pictures = random_pictures(5) if pictures is None else pictures
    return fill(
        fills,
        crop_windows(resident(pictures), windows(count), SIZE) if normal is None else normal,
        resident(pictures),
        resident(random_pictures(3, (30, 30), seed=1) if textures is None else textures),
        torch.full((count,), grey),
    )


def unaltered(fills: Fills) -> Fills:
    """The same without augmentation of the textures."""
    return replace(fills, plan=sample_plan(UPSTREAM_OPERATIONS, len(fills.kind), 0, generator()))


def still(fills: Fills) -> Fills:
    """The same with the product's own pixels neither turned nor mirrored."""
    elsewhere = replace(
        fills.elsewhere,
        degrees=torch.zeros_like(fills.elsewhere.degrees),
        mirrored=torch.zeros_like(fills.elsewhere.mirrored),
    )
    return replace(fills, elsewhere=elsewhere)


def blurred(images: Tensor, side: int) -> Tensor:
    pictures = images.permute(0, 2, 3, 1).numpy()
    border = cv2.BORDER_REPLICATE
    done = [cv2.blur(picture, (side, side), borderType=border) for picture in pictures]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", FILLS)
def test_weights_for_one_fill_draw_it_alone(name: str) -> None:
    assert FILLS[int(drawn(ONLY[name], 50).kind.unique())] == name


def test_fills_come_as_often_as_weighed() -> None:
    kind = drawn((4, 2, 1, 2, 1), 3000).kind

    shares = torch.bincount(kind, minlength=5) / 3000
    torch.testing.assert_close(shares, torch.tensor([4, 2, 1, 2, 1]) / 10, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", FILLS)
def test_fills_are_pictures_unlike_the_normal_one(name: str) -> None:
    normal = crop_windows(resident(random_pictures(5)), windows(8), SIZE)
    before = normal.clone()

    made = filled(drawn(ONLY[name]), normal=normal)

    assert made.shape == normal.shape
    assert made.dtype == torch.float32
    assert 0 <= float(made.min()) < float(made.max()) <= 1
    assert bool(((made - normal).abs().mean((1, 2, 3)) > 0.01).all())
    assert torch.equal(normal, before)


def test_fills_are_a_function_of_the_generator() -> None:
    first, again, other = (filled(drawn((1, 1, 1, 1, 1), 12, seed)) for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mixed_fills_are_each_what_they_are_alone() -> None:
    fills, pictures = drawn((1, 1, 1, 1, 1), 16), random_pictures(5)
    textures = random_pictures(3, (30, 30), seed=1)
    normal, grey = (
        crop_windows(resident(pictures), windows(16), SIZE),
        torch.arange(16) % 3 == 0,
    )

    together = fill(fills, normal, resident(pictures), resident(textures), grey)

    assert len(fills.kind.unique()) == 5
    for row in range(16):
        only = torch.tensor([row])
        alone = fill(
            take(fills, only),
            normal[only],
            resident(pictures),
            resident(textures),
            grey[only],
        )
        torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=0)


def test_a_texture_is_a_window_into_it() -> None:
    fills = unaltered(drawn(ONLY["texture"]))
    textures = random_pictures(3, (30, 30), seed=1)

    made = filled(fills, textures=textures)

    expected = crop_windows(resident(textures), fills.texture, SIZE)
    torch.testing.assert_close(made, expected, atol=0.5 / 255 + 1e-6, rtol=0)


def test_textures_are_augmented() -> None:
    fills = drawn(ONLY["texture"], 20)

    difference = (filled(fills) - filled(unaltered(fills))).abs().mean((1, 2, 3))

    assert float((difference > 0.01).float().mean()) > 0.8


def test_every_texture_is_used_at_many_scales_and_places() -> None:
    texture = drawn(ONLY["texture"], 1500).texture

    assert float((torch.bincount(texture.pictures, minlength=3) / 1500).min()) > 0.28
    assert 0.5 <= float(texture.scale.min()) < 0.52
    assert 1.95 < float(texture.scale.max()) <= 2
    assert float((texture.scale < 1).float().mean()) == pytest.approx(0.5, abs=0.05)
    for places in (texture.rows, texture.columns):
        assert 0 <= float(places.min()) < 1
        assert 28 < float(places.max()) <= 29


def test_another_part_is_another_picture() -> None:
    levels = torch.tensor([10, 60, 110, 160, 210], dtype=torch.uint8)
    pictures = levels[:, None, None, None].expand(-1, 3, 40, 52)
    fills = drawn(ONLY["other"], 40)

    made = filled(fills, pictures=pictures)

    expected = levels[fills.elsewhere.pictures][:, None, None, None].expand_as(made) / 255
    torch.testing.assert_close(made, expected)
    assert len(fills.elsewhere.pictures.unique()) == 5


@pytest.mark.parametrize("name", ["other", "displaced"])
def test_the_products_own_pixels_are_copied_unchanged(name: str) -> None:
    fills, margin = still(drawn(ONLY[name])), 60
    pictures = random_pictures(5)

    made = filled(fills, pictures=pictures)

    padded = np.pad(pictures.numpy(), ((0, 0), (0, 0), (margin,) * 2, (margin,) * 2), "reflect")
    for row, picture in enumerate(fills.elsewhere.pictures.tolist()):
        top = float(fills.elsewhere.rows[row]) - (SIZE[0] - 1) / 2
        left = float(fills.elsewhere.columns[row]) - (SIZE[1] - 1) / 2
        assert top.is_integer()
        assert left.is_integer()
        rows = slice(int(top) + margin, int(top) + margin + SIZE[0])
        columns = slice(int(left) + margin, int(left) + margin + SIZE[1])
        np.testing.assert_allclose(255 * made[row].numpy(), padded[picture, :, rows, columns])


def test_displaced_pixels_come_from_near_by_in_the_same_picture() -> None:
    seen = windows(1500)

    elsewhere = drawn(ONLY["displaced"], seen=seen).elsewhere

    assert torch.equal(elsewhere.pictures, seen.pictures)
    assert torch.equal(elsewhere.scale, seen.scale)
    away = torch.hypot(elsewhere.rows - seen.rows, elsewhere.columns - seen.columns)
    longest = 30 * min(SIZE) / 128
    assert longest - 0.5 < float(away.max()) < longest + 0.75
    assert float((elsewhere.rows - seen.rows).mean()) == pytest.approx(0, abs=0.3)
    assert float((elsewhere.columns - seen.columns).mean()) == pytest.approx(0, abs=0.3)
    assert float((elsewhere.degrees == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(elsewhere.mirrored.float().mean()) == pytest.approx(0.5, abs=0.05)


def test_other_parts_are_seen_anywhere() -> None:
    elsewhere = drawn(ONLY["other"], 1500).elsewhere

    assert 0 <= float(elsewhere.rows.min()) < 2
    assert 37 < float(elsewhere.rows.max()) < 40
    assert 0 <= float(elsewhere.columns.min()) < 2
    assert 49 < float(elsewhere.columns.max()) < 52


def test_a_tone_with_full_relief_is_added() -> None:
    fills = replace(drawn(ONLY["tone"]), relief=torch.ones(8))
    normal = crop_windows(resident(random_pictures(5)), windows(8), SIZE)

    made = filled(fills, normal=normal)

    torch.testing.assert_close(made, (normal + fills.tone[:, :, None, None]).clamp(0, 1))


@pytest.mark.parametrize("relief", [0.0, 0.25])
def test_a_tone_covers_the_texture_where_relief_is_low(relief: float) -> None:
    fills = replace(drawn(ONLY["tone"]), relief=torch.full((8,), relief))
    normal = crop_windows(resident(random_pictures(5)), windows(8), SIZE)

    made = filled(fills, normal=normal)

    base = (1 - relief) * blurred(normal, 9) + relief * normal
    expected = (base + fills.tone[:, :, None, None]).clamp(0, 1)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_tones_are_lighter_darker_and_tinted() -> None:
    tone = drawn(ONLY["tone"], 3000).tone

    assert tone.shape == (3000, 3)
    assert float((tone.mean(1) < 0).float().mean()) == pytest.approx(0.55, abs=0.06)
    # Three independent tints of standard deviation 0.15 about one brightness.
    assert float(tone.var(1).mean()) == pytest.approx(0.15**2, rel=0.08)


def test_a_smear_is_the_place_blurred() -> None:
    normal = crop_windows(resident(random_pictures(5)), windows(8), SIZE)

    made = filled(drawn(ONLY["smear"]), normal=normal)

    torch.testing.assert_close(made, blurred(normal, 7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["texture", "tone"])
def test_grey_samples_get_grey_textures_and_tones(name: str) -> None:
    fills, grey = drawn(ONLY[name], 12), torch.arange(12) % 2 == 0
    pictures = random_pictures(5)[:, :1].expand(-1, 3, -1, -1)
    normal, textures = (
        crop_windows(resident(pictures), windows(12), SIZE),
        random_pictures(3, (30, 30), seed=1),
    )

    made = fill(fills, normal, resident(pictures), resident(textures), grey)

    spread = (made.amax(1) - made.amin(1)).mean((1, 2))
    assert float(spread[grey].max()) < 1e-6
    assert float(spread[~grey].min()) > 1e-3


def test_taking_rows_reaches_every_draw() -> None:
    fills, rows = drawn((1, 1, 1, 1, 1), 9), torch.tensor([7, 2])

    taken = take(fills, rows)

    assert torch.equal(taken.tone, fills.tone[rows])
    assert torch.equal(taken.texture.scale, fills.texture.scale[rows])
    assert torch.equal(taken.elsewhere.mirrored, fills.elsewhere.mirrored[rows])
    assert torch.equal(taken.plan.choices, fills.plan.choices[rows])
    assert torch.equal(taken.plan.parameters, fills.plan.parameters[rows])
    assert taken.plan.columns == fills.plan.columns
