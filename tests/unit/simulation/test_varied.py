from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from draem.config import PAPER, UPSTREAM, VARIED, ResolvedSimulationConfig
from draem.errors import InputError
from draem.simulation.factory import make_simulator, texture_size, without_clean_samples
from draem.simulation.fills import FILLS
from draem.simulation.paper import PaperSimulator
from draem.simulation.shapes import shape_weights
from draem.simulation.simulator import SimulatedBatch
from draem.simulation.varied import VariedSimulator, centre, stands_out, visible
from tests.support import source

PART = (slice(20, 44), slice(40, 64))
"""Where the part lies in the pictures of `parts`."""


def pictures(count: int, size: tuple[int, int] = (40, 56), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def grey_pictures(count: int) -> Tensor:
    return pictures(count)[:, :1].expand(-1, 3, -1, -1).contiguous()


def plain_pictures(count: int, level: int = 120) -> Tensor:
    return torch.full((count, 3, 40, 56), level, dtype=torch.uint8)


def maps(count: int, size: tuple[int, int] = (40, 56)) -> Tensor:
    """Pictures that say of every pixel its row, its column and which picture it is in."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    each = [torch.stack((rows, columns, torch.full(size, number))) for number in range(count)]
    return torch.stack(each).to(torch.uint8)


def parts(count: int) -> Tensor:
    """Parts before a plain background, at the same place in every picture."""
    images = torch.full((count, 3, 64, 96), 20, dtype=torch.uint8)
    images[:, :, PART[0], PART[1]] = 100 + pictures(count, (24, 24)) // 3
    return images


def simulator(images: Tensor | None = None, seed: int = 0, **settings: Any) -> VariedSimulator:
    images = pictures(5) if images is None else images
    profile = VARIED.replace(**{"crop": 32, "coarse_share": 0.0, **settings})
    return make_simulator(source(images), source(pictures(3, (30, 30), seed=1)), profile, seed)


def same(first: SimulatedBatch, second: SimulatedBatch) -> bool:
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def only(name: str) -> tuple[float, ...]:
    return tuple(float(each == name) for each in FILLS)


def seen_places(made: VariedSimulator, steps: int = 1, size: int = 16) -> Tensor:
    """What the windows into `maps` show, as (samples, 3, height, width) levels."""
    return torch.cat([255 * made.batch(step, size).normal_images for step in range(steps)])


def spread_to(mask: Tensor, side: int) -> Tensor:
    kernel = np.ones((side, side), np.uint8)
    return torch.stack([torch.from_numpy(cv2.dilate(each[0].numpy(), kernel)) for each in mask])


def seen_changes(batch: SimulatedBatch) -> Tensor:
    """Where a change of 2 % over 3x3 pixels is within two pixels, by OpenCV."""
    changes = (batch.simulated_images - batch.normal_images).abs().mean(1)
    border = cv2.BORDER_REPLICATE
    means = [cv2.blur(change.numpy(), (3, 3), borderType=border) for change in changes]
    return spread_to(torch.from_numpy(np.stack(means) > 0.02)[:, None].float(), 5)


@pytest.mark.parametrize(
    ("size", "crop", "window"),
    [
        ((40, 56), 32, (32, 32)),
        ((40, 56), 48, (40, 48)),
        ((56, 40), 48, (48, 40)),
        ((40, 56), 500, (40, 56)),
        ((40, 56), None, (40, 56)),
        ((37, 53), 19, (19, 19)),
    ],
)
def test_shapes_dtypes_and_ranges(
    size: tuple[int, int], crop: int | None, window: tuple[int, int]
) -> None:
    made = simulator(pictures(5, size), crop=crop)

    batch = made.batch(3, 7)

    assert made.size == window
    assert batch.normal_images.shape == batch.simulated_images.shape == (7, 3, *window)
    assert batch.anomaly_mask.shape == (7, 1, *window)
    assert batch.opacity.shape == (7,)
    assert all(part.dtype == torch.float32 for part in batch)
    for images in batch[:2]:
        assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert set(batch.anomaly_mask.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("images", [pictures(4), grey_pictures(4), plain_pictures(4), parts(4)])
@pytest.mark.parametrize("fill", [None, *FILLS])
def test_marked_pixels_are_changed_and_others_are_not(images: Tensor, fill: str | None) -> None:
    settings = {"fills": only(fill)} if fill else {}
    made = simulator(images, clean_share=0, layers=3, **settings)

    for step in range(4):
        batch = made.batch(step, 8)

        far = spread_to(batch.anomaly_mask, 7) == 0
        unchanged = (batch.simulated_images == batch.normal_images).all(1)
        assert bool(unchanged[far].all())
        assert bool((seen_changes(batch)[batch.anomaly_mask[:, 0] == 1] == 1).all())


def test_anomalies_that_a_later_one_hides_are_not_marked() -> None:
    # Another part with the same plain surface covers a tone with what was there before.
    hidden = simulator(
        plain_pictures(3),
        clean_share=0,
        layers=2,
        shapes=(1, 0, 0),
        threshold=(-3, -3),
        opacity=(1, 1),
        fills=(0, 0.5, 0, 0.5, 0),
    ).batch(0, 64)

    changed = (hidden.simulated_images != hidden.normal_images).flatten(1).any(1)
    marked = hidden.anomaly_mask.flatten(1).any(1)
    assert torch.equal(changed, marked)
    # A tone lies open unless another part follows: a half times three quarters, or a tone follows
    # another part: a half times a quarter.
    assert float(marked.float().mean()) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("shape", range(3))
def test_masks_are_what_is_seen_of_the_shapes(shape: int) -> None:
    shapes = tuple(float(index == shape) for index in range(3))
    # Moved pixels have a rule of their own.
    still = {"fills": (1.0, 0.0, 0.0, 1.0, 1.0)}
    made = simulator(clean_share=0, layers=1, shapes=shapes, opacity=(1, 1), **still)

    batch, sampled = made.batch(2, 32), made._sample_parameters(2, 32)

    weights = shape_weights(sampled.layers[0].shapes, made.size)
    expected = (weights >= 0.4) & (seen_changes(batch) == 1)
    assert torch.equal(batch.anomaly_mask[:, 0] == 1, expected)
    assert ((weights > 0) & (weights < 0.4)).any()


@pytest.mark.parametrize("crop", [16, 17])
def test_windows_lie_on_whole_pixels(crop: int) -> None:
    windows = simulator(crop=crop)._sample_parameters(0, 100).windows

    for centres in (windows.rows, windows.columns):
        first = centres - (crop - 1) / 2
        assert torch.equal(first, first.round())


@pytest.mark.parametrize("fill", FILLS)
def test_every_fill_makes_anomalies(fill: str) -> None:
    batch = simulator(clean_share=0, fills=only(fill)).batch(0, 24)

    marked = batch.anomaly_mask.amax((1, 2, 3))
    assert float(marked.mean()) > 0.6


@pytest.mark.parametrize("shape", range(3))
def test_every_shape_makes_anomalies(shape: int) -> None:
    shapes = tuple(float(index == shape) for index in range(3))

    batch = simulator(clean_share=0, shapes=shapes, layers=1).batch(0, 24)

    coverage = batch.anomaly_mask.mean((1, 2, 3))
    assert float((coverage > 0).float().mean()) > 0.6
    assert float(coverage.mean()) < 0.5


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first = simulator().batch(4, 6)

    assert same(first, simulator().batch(4, 6))
    for other in (simulator().batch(5, 6), simulator(seed=1).batch(4, 6)):
        assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))


def test_earlier_batches_leave_no_trace() -> None:
    used = simulator()
    images, textures = used.normal_images.stored.clone(), used.textures.stored.clone()
    for step in range(3):
        used.batch(step, 4)

    assert same(used.batch(3, 4), simulator().batch(3, 4))
    assert torch.equal(used.normal_images.stored, images)
    assert torch.equal(used.textures.stored, textures)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("images", [pictures(5), parts(5)])
def test_processes_share_the_rows_of_one_batch(images: Tensor, world: int) -> None:
    made = simulator(images, rotation_share=0.5, zoom=1.3, flips=True)

    whole = made.batch(1, 7)

    for rank in range(world):
        part = made.batch(1, 7, rank=rank, world=world)
        for rows, all_rows in zip(part, whole, strict=True):
            assert torch.equal(rows, all_rows[rank::world])


def test_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    made = simulator().batch(0, 4)

    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1234)
    assert same(simulator().batch(0, 4), made)


def test_every_image_comes_once_before_any_comes_twice() -> None:
    seen = seen_places(simulator(maps(7), crop=8), steps=7, size=3)[:, 2, 0, 0].round().tolist()

    rounds = [seen[:7], seen[7:14], seen[14:]]
    assert all(sorted(part) == list(range(7)) for part in rounds)
    assert len({tuple(part) for part in rounds}) == 3


@pytest.mark.parametrize("size", [(40, 56), (41, 55)])
@pytest.mark.parametrize("crop", [16, 17])
def test_windows_are_slices_of_the_images(size: tuple[int, int], crop: int) -> None:
    places = seen_places(simulator(maps(3, size), crop=crop), steps=8)

    torch.testing.assert_close(places, places.round(), atol=1e-4, rtol=0)
    first = places[:, :, :1, :1].round()
    steps = maps(1, (crop, crop))[0].float()
    torch.testing.assert_close(places, first + steps, atol=1e-4, rtol=0)
    for axis, side in enumerate(size):
        assert int(first[:, axis].min()) < 4
        assert side - crop - 4 < int(first[:, axis].max()) <= side - crop


def test_a_crop_larger_than_the_images_shows_them_whole() -> None:
    images = maps(3)

    places = seen_places(simulator(images, crop=64), size=6)

    chosen = places[:, 2, 0, 0].round().long()
    torch.testing.assert_close(places, images[chosen].float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("flips", [False, True])
def test_half_of_the_windows_are_mirrored_where_asked(flips: bool) -> None:
    places = seen_places(simulator(maps(3), crop=16, flips=flips), steps=12)

    along = places.diff(dim=3)[:, 1, 0, 0].round()
    assert set(along.tolist()) == ({-1.0, 1.0} if flips else {1.0})
    assert float((along == -1).float().mean()) == pytest.approx(0.5 * flips, abs=0.12)
    assert bool((places.diff(dim=2)[:, 0].round() == 1).all())


def test_coarse_windows_show_averages_of_twice_as_much() -> None:
    images = pictures(3, (70, 90))

    seen = simulator(images, crop=32, coarse_share=1.0).batch(0, 12).normal_images

    halves = [
        functional.avg_pool2d(images[:, :, top:, left:].float() / 255, 2)
        for top in (0, 1)
        for left in (0, 1)
    ]
    spots = torch.cat([functional.unfold(half, 32).movedim(2, 1).flatten(0, 1) for half in halves])
    for window in seen.flatten(1):
        assert float((spots - window).abs().amax(1).min()) < 1e-5


def test_the_coarse_share_is_that_of_the_windows() -> None:
    made = simulator(maps(3, (70, 90)), crop=20, coarse_share=0.25)

    places = seen_places(made, steps=25)

    steps = places[:, 0].diff(dim=1).mean((1, 2))
    coarse = (steps - 2).abs() < 1e-3
    assert torch.all(coarse | ((steps - 1).abs() < 1e-3))
    assert float(coarse.float().mean()) == pytest.approx(0.25, abs=0.06)


def test_a_coarse_window_may_be_larger_than_the_picture() -> None:
    made = simulator(maps(2, (40, 56)), crop=32, coarse_share=1.0)

    rows = seen_places(made)[:, 0]

    assert rows.shape == (16, 32, 32)
    assert float(rows.min()) <= 1.5
    assert float(rows.max()) >= 37.5


@pytest.mark.parametrize("reach", [6.0, 7.0])
def test_a_window_stays_within_its_picture(reach: float) -> None:
    wanted = torch.linspace(-5, 30, 50)

    found = centre(wanted, torch.full((50,), reach), 20)

    first, last = found - (reach - 1) / 2, found + (reach - 1) / 2
    assert torch.equal(first, first.round())
    assert float(first.min()) == 0
    assert float(last.max()) == 19
    inner = (wanted > 4) & (wanted < 15)
    assert float((found - wanted)[inner].abs().max()) <= 0.5


def test_a_window_larger_than_its_picture_holds_it() -> None:
    wanted = torch.linspace(-50, 50, 60)

    found = centre(wanted, torch.full((60,), 32.0), 20)

    assert float((found - 15.5).max()) <= 0
    assert float((found + 15.5).min()) >= 19


def test_half_of_the_windows_are_zoomed_up_to_the_factor() -> None:
    places = seen_places(simulator(maps(3), crop=12, zoom=1.5), steps=15)

    # The median is blind to the mirrored border.
    scale = places.diff(dim=3)[:, 1].flatten(1).median(1).values
    assert 1 / 1.5 - 0.01 < float(scale.min()) < 0.75
    assert 1.33 < float(scale.max()) < 1.51
    assert float(((scale - 1).abs() < 1e-3).float().mean()) == pytest.approx(0.5, abs=0.12)


def test_windows_are_turned_as_often_and_as_far_as_asked() -> None:
    made = simulator(maps(3), crop=12, rotation_share=0.4, rotation_degrees=30)

    places = seen_places(made, steps=15)

    # Looking along a row, the rows climb by the sine of the angle.
    sine = places.diff(dim=3)[:, 0].flatten(1).median(1).values
    degrees = torch.rad2deg(torch.asin(sine.clamp(-1, 1)))
    assert float((degrees.abs() > 0.3).float().mean()) == pytest.approx(0.4, abs=0.1)
    assert -30.2 < float(degrees.min()) < -24
    assert 24 < float(degrees.max()) < 30.2


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_clean_share(share: float) -> None:
    # Everything is covered, unless a sample is clean.
    made = simulator(
        clean_share=share, shapes=(1, 0, 0), threshold=(-3, -3), fills=only("other"), opacity=(1, 1)
    )

    batch = made.batch(0, 200)

    clean = batch.anomaly_mask.amax((1, 2, 3)) == 0
    assert float(clean.float().mean()) == pytest.approx(share, abs=0.1 * (share == 0.5))
    assert torch.equal(batch.simulated_images[clean], batch.normal_images[clean])


def test_changes_are_as_opaque_as_said() -> None:
    # White images under black textures: how dark it gets is the opacity.
    profile = VARIED.replace(crop=16, clean_share=0, layers=1, shapes=(1, 0, 0), threshold=(-3, -3))
    profile = profile.replace(fills=only("other"), opacity=(0.3, 0.7))
    images = torch.cat((plain_pictures(1, 0), plain_pictures(1, 255)))
    made = make_simulator(source(images), source(pictures(1)), profile)

    batch = made.batch(0, 300)

    changed = batch.anomaly_mask.amax((1, 2, 3)) == 1
    weight = (batch.simulated_images - batch.normal_images).abs().mean((1, 2, 3))
    assert float(changed.float().mean()) == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(weight[changed], batch.opacity[changed])
    assert 0.3 <= float(batch.opacity.min()) < 0.31
    assert 0.69 < float(batch.opacity.max()) <= 0.7


@pytest.mark.parametrize("fill", ["tone", "smear"])
def test_tones_and_smears_are_always_opaque(fill: str) -> None:
    faint, full = (
        simulator(clean_share=0, layers=1, fills=only(fill), opacity=opacity).batch(0, 8)
        for opacity in ((0.01, 0.01), (1, 1))
    )

    assert full.anomaly_mask.any()
    assert torch.equal(faint.simulated_images, full.simulated_images)


def test_faint_changes_are_neither_made_nor_marked() -> None:
    batch = simulator(clean_share=0, fills=only("texture"), opacity=(0.01, 0.01)).batch(0, 16)

    assert not batch.anomaly_mask.any()
    assert torch.equal(batch.simulated_images, batch.normal_images)


def test_further_layers_add_to_the_first() -> None:
    one, three = (simulator(clean_share=0, layers=layers).batch(0, 48) for layers in (1, 3))

    coverage = [batch.anomaly_mask.mean((1, 2, 3)) for batch in (one, three)]
    assert torch.equal(one.normal_images, three.normal_images)
    assert torch.equal(one.opacity, three.opacity)
    assert float(coverage[1].mean()) > 1.3 * float(coverage[0].mean())
    # Each further layer is left out half of the time: in a quarter of the samples, both.
    alike = (one.simulated_images == three.simulated_images).flatten(1).all(1)
    assert float(alike.float().mean()) == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize("grey_sources", [False, True])
def test_grey_images_get_grey_anomalies(grey_sources: bool) -> None:
    made = simulator(grey_pictures(5), grey_sources=grey_sources, clean_share=0)

    batch = made.batch(0, 24)

    assert batch.anomaly_mask.any()
    spread = batch.simulated_images.amax(1) - batch.simulated_images.amin(1)
    assert (float(spread.max()) < 1e-5) == grey_sources


def test_grey_images_among_coloured_ones_get_grey_textures() -> None:
    images = torch.cat((pictures(3, seed=5), grey_pictures(3)))
    settings = {"clean_share": 0, "fills": (0.5, 0, 0.2, 0.3, 0)}

    batch = simulator(images, **settings).batch(0, 36)

    spread, colour = (each.amax(1) - each.amin(1) for each in batch[:2])
    grey = spread.amax((1, 2)) < 1e-6
    assert int(grey.sum()) == 18
    assert float(colour[grey].max()) < 1e-5
    as_elsewhere = simulator(images, grey_sources=False, **settings).batch(0, 36)
    assert torch.equal(batch.simulated_images[~grey], as_elsewhere.simulated_images[~grey])
    assert not torch.equal(batch.simulated_images[grey], as_elsewhere.simulated_images[grey])


def test_most_anomalies_fall_on_the_part() -> None:
    def share_on_part(on_part: bool) -> float:
        made = simulator(parts(4), crop=48, clean_share=0, layers=1, on_part=on_part)
        batches = [made.batch(step, 16) for step in range(6)]
        masks = torch.cat([batch.anomaly_mask[:, 0] for batch in batches])
        normal = torch.cat([batch.normal_images.amax(1) for batch in batches])
        near = spread_to((normal > 0.3)[:, None].float(), 17)
        on = (masks * near).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)
        return float((on[masks.amax((1, 2)) > 0] > 0.95).float().mean())

    assert share_on_part(True) > 0.75
    assert share_on_part(False) < 0.5


def test_most_anomalies_end_where_the_part_ends() -> None:
    # Everything is covered, unless an anomaly lies on the part alone.
    made = simulator(
        parts(4),
        crop=64,
        clean_share=0,
        layers=1,
        shapes=(1, 0, 0),
        threshold=(-3, -3),
        fills=only("texture"),
        opacity=(1, 1),
    )
    masks = torch.cat([made.batch(step, 40).anomaly_mask for step in range(6)])

    ended = masks.mean((1, 2, 3)) < 42 * 42 / 64**2
    assert float(ended.float().mean()) == pytest.approx(0.85, abs=0.06)
    assert float(masks[~ended].mean((1, 2, 3)).median()) > 0.9
    assert float(masks[ended].mean((1, 2, 3)).median()) > 24 * 24 / 64**2


def test_windows_show_the_part() -> None:
    def share(on_part: bool) -> float:
        made = simulator(parts(4), crop=24, on_part=on_part)
        normal = torch.cat([made.batch(step, 16).normal_images for step in range(6)])
        return float((normal.amax((1, 2, 3)) > 0.3).float().mean())

    assert share(True) > 0.85
    assert share(False) < 0.7


@pytest.mark.parametrize("images", [pictures(3), plain_pictures(3), parts(3)])
def test_the_foreground_is_sought_where_asked(images: Tensor) -> None:
    has_part = images.shape[2] == 64

    assert (simulator(images).foreground is not None) == has_part
    assert simulator(images, on_part=False).foreground is None


@pytest.mark.parametrize("size", [(32, 48), (33, 41), (23, 57)])
def test_first_anomalies_lie_inside_whole_images(size: tuple[int, int]) -> None:
    shapes = simulator(pictures(2, size), crop=None)._sample_parameters(0, 800).layers[0].shapes

    for places, side in zip((shapes.rows, shapes.columns), size, strict=True):
        assert 0 <= float(places.min()) < 1
        assert side - 2 < float(places.max()) <= side - 1


@pytest.mark.parametrize(
    ("images", "textures", "words"),
    [
        (pictures(2).float(), pictures(2), ["float32", "uint8"]),
        (pictures(2), pictures(2)[0], ["(3, 40, 56)"]),
        (pictures(2)[:, :1], pictures(2), ["(2, 1, 40, 56)"]),
        (pictures(2)[:0], pictures(2), ["at least one"]),
        (pictures(2), pictures(2)[:0], ["at least one"]),
    ],
)
def test_unusable_pictures_are_refused(images: Tensor, textures: Tensor, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make_simulator(source(images), source(textures), VARIED)

    assert all(word in str(caught.value) for word in words)


def test_textures_may_have_any_size() -> None:
    made = make_simulator(
        source(pictures(2)), source(pictures(3, (17, 80))), VARIED.replace(crop=32)
    )

    assert made.batch(0, 6).anomaly_mask.any()


@pytest.mark.parametrize("step", [0.0, 0.019, 0.021, 0.5])
def test_changes_are_visible_from_a_fiftieth_of_the_range(step: float) -> None:
    normal = torch.full((1, 3, 16, 20), 0.4)

    seen = visible(normal, normal + step)

    assert seen.shape == (1, 1, 16, 20)
    assert bool((seen == float(step > 0.02)).all())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_lone_changed_pixel_is_visible_around_it(channels: int) -> None:
    normal, simulated = torch.zeros(1, 3, 16, 20), torch.zeros(1, 3, 16, 20)
    simulated[0, :channels, 7, 9] = 0.6

    seen = visible(normal, simulated)

    # One pixel reaches its neighbours through the mean over 3x3, and these reach two pixels on.
    expected = torch.zeros_like(seen)
    expected[0, 0, 4:11, 6:13] = 1
    assert torch.equal(seen, expected)
    assert torch.equal(visible(simulated, normal), expected)


def test_faint_noise_is_not_visible() -> None:
    normal = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(0))

    assert not visible(normal, normal + 0.015 * (normal > 0.5)).any()


@pytest.mark.parametrize(
    ("profile", "kind"),
    [(PAPER, PaperSimulator), (UPSTREAM, PaperSimulator), (VARIED, VariedSimulator)],
)
def test_profiles_get_their_simulator(
    profile: ResolvedSimulationConfig, kind: type[object]
) -> None:
    derived = profile.replace(clean_share=0.1)

    made = make_simulator(source(pictures(2)), source(pictures(2)), derived, 5)

    assert type(made) is kind
    assert made.profile == derived
    assert made.seed == 5


def test_textures_are_square_where_windows_are_cut_from_them() -> None:
    assert texture_size("varied", (64, 96)) == (64, 64)
    assert texture_size("varied", (96, 32)) == (32, 32)
    assert texture_size("paper", (64, 96)) == texture_size("upstream", (64, 96)) == (64, 96)


@pytest.mark.parametrize("profile", [UPSTREAM, VARIED])
def test_without_clean_samples_all_else_stays(profile: ResolvedSimulationConfig) -> None:
    made = make_simulator(source(pictures(2)), source(pictures(2)), profile, 1)

    validating = without_clean_samples(made, 7)

    assert type(validating) is type(made)
    assert validating.profile == profile.replace(clean_share=0)
    assert validating.seed == 7
    assert validating.normal_images is made.normal_images
    assert made.profile == profile


def test_moved_pixels_stand_out_where_local_means_differ() -> None:
    images = torch.full((1, 3, 40, 40), 0.5)
    filled = images.clone()
    filled[:, :, 10:20, 10:20] += 0.2  # structure that was not there
    filled[:, :, 30::2, 30::2] += 0.1  # grain, whose means over 7x7 pixels change by 0.03 at most

    marked = stands_out(images, filled)[0, 0]

    assert marked[15, 15] == 1
    assert float(marked[:28, :28].sum()) == float(marked.sum())
    assert marked.shape == (40, 40)


@pytest.mark.parametrize("fill", ["other", "displaced"])
def test_grain_that_is_moved_is_not_marked(fill: str) -> None:
    grain = torch.randint(100, 140, (5, 1, 40, 56), generator=torch.Generator().manual_seed(2))
    images = grain.to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    weights = tuple(float(name == fill) for name in FILLS)
    made = simulator(images, fills=weights, clean_share=0.0, layers=1)

    batch = made.batch(0, 32)

    assert not batch.anomaly_mask.any()
    assert torch.equal(batch.simulated_images, batch.normal_images)


def test_turned_and_enlarged_windows_keep_sight_of_their_anomaly() -> None:
    settings = {"rotation_share": 1.0, "rotation_degrees": 180.0, "zoom": 4.0}
    made = simulator(pictures(5, (64, 96)), clean_share=0.0, layers=1, **settings)

    for step in range(8):
        shapes = made._sample_parameters(step, 16).layers[0].shapes
        assert bool(((shapes.rows >= 0) & (shapes.rows <= 31)).all())
        assert bool(((shapes.columns >= 0) & (shapes.columns <= 31)).all())


def test_textures_can_stay_as_they_are() -> None:
    white = torch.full((1, 3, 30, 30), 200, dtype=torch.uint8)
    weights = tuple(float(name == "texture") for name in FILLS)
    settings = {"fills": weights, "opacity": (1.0, 1.0), "clean_share": 0.0, "layers": 1}
    for count, untouched in ((0, True), (3, False)):
        profile = VARIED.replace(crop=32, operation_count=count, **settings)
        made = make_simulator(source(plain_pictures(4, 20)), source(white), profile, 3)
        batch = made.batch(0, 32)
        inside = batch.simulated_images[batch.anomaly_mask.expand(-1, 3, -1, -1) == 1]
        brightest = float(inside.max())
        assert (brightest == pytest.approx(200 / 255)) is untouched
