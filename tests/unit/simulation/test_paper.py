from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from draem.config import PAPER, PROFILES, UPSTREAM, VARIED, ResolvedSimulationConfig
from draem.errors import InputError
from draem.simulation.device_images import resident
from draem.simulation.factory import make_simulator
from draem.simulation.grayscale import are_grayscale, is_grayscale
from draem.simulation.perlin import perlin_field, uniform_angles
from draem.simulation.rectangles import rectangles
from draem.simulation.simulator import SimulatedBatch, Simulator
from tests.support import pixel_grid, source

STILL = UPSTREAM.replace(rotation_share=0)


def pictures(count: int, size: tuple[int, int] = (32, 48), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def plain(levels: list[int], size: tuple[int, int] = (16, 16)) -> Tensor:
    """One picture a level, so that a sample tells which image it was made from."""
    return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, *size)


def simulator(
    profile: ResolvedSimulationConfig = UPSTREAM, size: tuple[int, int] = (32, 48), seed: int = 0
) -> Simulator:
    return make_simulator(
        source(pictures(5, size)), source(pictures(3, size, seed=1)), profile, seed
    )


def same(first: SimulatedBatch, second: SimulatedBatch) -> bool:
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("profile", [PAPER, UPSTREAM])
@pytest.mark.parametrize("size", [(32, 32), (32, 48), (40, 24)])
def test_shapes_dtypes_and_ranges(profile: ResolvedSimulationConfig, size: tuple[int, int]) -> None:
    batch = simulator(profile, size).batch(3, 7)

    assert batch.normal_images.shape == batch.simulated_images.shape == (7, 3, *size)
    assert batch.anomaly_mask.shape == (7, 1, *size)
    assert batch.opacity.shape == (7,)
    assert all(part.dtype == torch.float32 for part in batch)
    assert all(part.device.type == "cpu" for part in batch)
    for images in batch[:2]:
        assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert set(batch.anomaly_mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("profile", [PAPER, UPSTREAM])
def test_images_are_blended_inside_the_mask_alone(profile: ResolvedSimulationConfig) -> None:
    # White sources that no augmentation is applied to: what is blended in is known.
    white = torch.full((1, 3, 32, 48), 255, dtype=torch.uint8)
    unaltered = profile.replace(operation_count=0, clean_share=0)

    batch = make_simulator(source(pictures(5)), source(white), unaltered).batch(0, 16)

    marked = batch.anomaly_mask.expand(-1, 3, -1, -1) == 1
    opacity = batch.opacity[:, None, None, None]
    expected = (1 - opacity) * batch.normal_images + opacity
    assert marked.any()
    assert not marked.all()
    assert torch.equal(batch.simulated_images[~marked], batch.normal_images[~marked])
    torch.testing.assert_close(batch.simulated_images[marked], expected[marked])


@pytest.mark.parametrize("profile", [PAPER, UPSTREAM])
def test_blended_pixels_leave_room_for_a_source_in_range(profile: ResolvedSimulationConfig) -> None:
    batch = simulator(profile.replace(clean_share=0)).batch(1, 16)

    opacity = batch.opacity[:, None, None, None]
    remainder = batch.simulated_images - (1 - opacity) * batch.normal_images
    source = (remainder / opacity)[batch.anomaly_mask.expand(-1, 3, -1, -1) == 1]
    # Sources hold whole levels; dividing by the opacity enlarges the rounding up to tenfold.
    assert float(source.min()) > -1e-5
    assert float(source.max()) < 1 + 1e-5
    torch.testing.assert_close(source * 255, (source * 255).round(), atol=1e-2, rtol=0)


@pytest.mark.parametrize(("profile", "zero_outside"), [(PAPER, False), (UPSTREAM, True)])
def test_masks_are_the_thresholded_noise(
    profile: ResolvedSimulationConfig, zero_outside: bool
) -> None:
    made = simulator(profile.replace(clean_share=0.3))

    batch, sampled = made.batch(2, 24), made._sample_parameters(2, 24)

    noise, other = (
        perlin_field(
            (32, 48), sampled.cells, sampled.noise_degrees, sampled.angles, zero_outside=zeroed
        )
        for zeroed in (zero_outside, not zero_outside)
    )
    marked, marked_otherwise = (
        (field > sampled.threshold[:, None, None]) & ~sampled.clean[:, None, None]
        for field in (noise, other)
    )
    assert torch.equal(batch.anomaly_mask[:, 0], marked.float())
    assert not torch.equal(marked, marked_otherwise)


@pytest.mark.parametrize("profile", [PAPER, UPSTREAM])
def test_a_batch_is_a_function_of_seed_and_step(profile: ResolvedSimulationConfig) -> None:
    first = simulator(profile).batch(4, 6)

    assert same(first, simulator(profile).batch(4, 6))
    assert not same(first, simulator(profile).batch(5, 6))
    assert not same(first, simulator(profile, seed=1).batch(4, 6))
    assert not torch.equal(first.opacity, simulator(profile).batch(5, 6).opacity)
    assert not torch.equal(first.opacity, simulator(profile, seed=1).batch(4, 6).opacity)


def test_earlier_batches_leave_no_trace() -> None:
    used = simulator()
    for step in range(3):
        used.batch(step, 4)

    assert same(used.batch(3, 4), simulator().batch(3, 4))


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("profile", [PAPER, UPSTREAM])
def test_processes_share_the_rows_of_one_batch(
    profile: ResolvedSimulationConfig, world: int
) -> None:
    made = simulator(profile)

    whole = made.batch(1, 7)

    for rank in range(world):
        part = made.batch(1, 7, rank=rank, world=world)
        for rows, all_rows in zip(part, whole, strict=True):
            assert torch.equal(rows, all_rows[rank::world])


def test_every_image_comes_once_before_any_comes_twice() -> None:
    levels = list(range(10, 80, 10))
    made = make_simulator(source(plain(levels)), source(plain([0])), STILL, seed=3)

    seen = [
        round(255 * float(image[0, 0, 0]))
        for step in range(7)
        for image in made.batch(step, 3).normal_images
    ]

    rounds = [seen[:7], seen[7:14], seen[14:]]
    assert all(sorted(part) == levels for part in rounds)
    assert len({tuple(part) for part in rounds}) == 3


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_with_replacement_images_repeat(profile: ResolvedSimulationConfig) -> None:
    levels = list(range(40, 240, 25))
    counts: dict[bool, list[int]] = {False: [], True: []}
    for replacing in counts:
        asked = profile.replace(rotation_share=0, with_replacement=replacing)
        made = make_simulator(source(plain(levels)), source(pictures(3, (16, 16))), asked)
        for step in range(4):
            shown = 255 * made.batch(step, len(levels)).normal_images[:, 0, 0, 0]
            counts[replacing].append(len(shown.round().unique()))

    assert counts[False] == [len(levels)] * 4
    assert min(counts[True]) < len(levels)


def test_with_replacement_all_else_stays() -> None:
    plain_draw, replaced = (
        simulator(UPSTREAM.replace(with_replacement=replacing)).batch(2, 16)
        for replacing in (False, True)
    )

    assert torch.equal(plain_draw.anomaly_mask, replaced.anomaly_mask)
    assert torch.equal(plain_draw.opacity, replaced.opacity)
    assert not torch.equal(plain_draw.normal_images, replaced.normal_images)


def test_a_batch_may_be_larger_than_the_set() -> None:
    levels = [10, 20, 30]

    batch = make_simulator(source(plain(levels)), source(plain([0])), STILL).batch(0, 9)

    seen = (255 * batch.normal_images[:, 0, 0, 0]).round().int().tolist()
    assert sorted(seen) == sorted(3 * levels)


def test_every_texture_is_used() -> None:
    sources = plain([51, 102, 153])
    always = STILL.replace(opacity=(1, 1), clean_share=0, operation_count=0)

    batch = make_simulator(source(plain([0])), source(sources), always).batch(0, 200)

    used = (255 * batch.simulated_images.amax((1, 2, 3))).round().int()
    shares = torch.bincount(used, minlength=256)[[0, 51, 102, 153]] / 200
    assert float(shares[1:].min()) > 0.2
    assert float(shares.sum()) == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_clean_share(share: float) -> None:
    # Noise is always above -2, so that only clean samples are empty.
    profile = PAPER.replace(clean_share=share, threshold=(-2, -2), operation_count=0)

    batch = simulator(profile, (8, 8)).batch(0, 1000)

    empty = batch.anomaly_mask.amax((1, 2, 3)) == 0
    assert float(empty.float().mean()) == pytest.approx(share, abs=0.05 * (share == 0.5))
    assert torch.equal(batch.simulated_images[empty], batch.normal_images[empty])


@pytest.mark.parametrize("profile", [PAPER, UPSTREAM])
def test_opacity_is_uniform_over_its_range(profile: ResolvedSimulationConfig) -> None:
    low, high = profile.opacity

    opacity = simulator(profile.replace(operation_count=0), (8, 8)).batch(0, 1500).opacity

    assert low <= float(opacity.min()) < low + 0.01
    assert high - 0.01 < float(opacity.max()) <= high
    assert float(opacity.mean()) == pytest.approx((low + high) / 2, abs=0.02)
    assert float(opacity.var()) == pytest.approx((high - low) ** 2 / 12, rel=0.1)


@pytest.mark.parametrize(("profile", "least", "most"), [(UPSTREAM, 0.03, 0.1), (PAPER, 0.08, 0.25)])
def test_masks_mark_a_small_part_and_never_everything(
    profile: ResolvedSimulationConfig, least: float, most: float
) -> None:
    bare = profile.replace(clean_share=0, operation_count=0)
    masks = simulator(bare, (64, 64)).batch(0, 400).anomaly_mask

    coverage = masks.mean((1, 2, 3))
    assert least < float(coverage.mean()) < most
    assert float(coverage.max()) < 0.8
    assert float((coverage > 0).float().mean()) > 0.6
    assert float(coverage.std()) > 0.02


def test_normal_images_are_rotated_as_often_as_asked() -> None:
    def turned(profile: ResolvedSimulationConfig) -> Tensor:
        made = make_simulator(
            source(pictures(1, (8, 8))),
            source(plain([0], (8, 8))),
            profile.replace(operation_count=0),
        )
        images = made.batch(0, 600).normal_images
        return (images != made.normal_images.stored / 255).flatten(1).any(1).float()

    assert float(turned(UPSTREAM).mean()) == pytest.approx(0.3, abs=0.06)
    assert float(turned(PAPER).mean()) > 0.99
    assert float(turned(STILL).sum()) == 0


def test_rotation_keeps_within_its_angle_and_fill() -> None:
    white = plain([255], (33, 33))
    degrees = (
        make_simulator(source(white), source(white), PAPER)._sample_parameters(0, 1000).rotation
    )

    assert float(degrees.min()) < -44
    assert float(degrees.max()) > 44
    assert float(degrees.abs().max()) <= 45
    mirrored = make_simulator(source(white), source(white), PAPER).batch(0, 20).normal_images
    blackened = make_simulator(
        source(white), source(white), PAPER.replace(rotation_fill="black")
    ).batch(0, 20)
    assert float(mirrored.min()) == 1
    assert float(blackened.normal_images.min()) == 0


def test_lattice_cells_are_powers_of_two_up_to_the_finest() -> None:
    cells = simulator()._sample_parameters(0, 600).cells

    assert cells.shape == (600, 2)
    assert sorted(cells.unique().tolist()) == [1, 2, 4, 8, 16, 32]
    assert not torch.equal(cells[:, 0], cells[:, 1])


def test_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    made = simulator().batch(0, 4)

    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1234)
    assert same(simulator().batch(0, 4), made)


def test_the_given_pictures_stay_as_they_were() -> None:
    made = simulator()
    images, textures = made.normal_images.stored.clone(), made.textures.stored.clone()

    made.batch(0, 8)

    assert torch.equal(made.normal_images.stored, images)
    assert torch.equal(made.textures.stored, textures)


@pytest.mark.parametrize(
    ("images", "textures", "words"),
    [
        (pictures(2).float(), pictures(2), ["float32", "uint8"]),
        (pictures(2), pictures(2)[0], ["(3, 32, 48)"]),
        (pictures(2)[:, :1], pictures(2), ["(2, 1, 32, 48)"]),
        (pictures(2)[:0], pictures(2), ["at least one"]),
        (pictures(2), pictures(2)[:0], ["at least one"]),
        (pictures(2), pictures(2, (48, 32)), ["differ in size", "(32, 48)", "(48, 32)"]),
    ],
)
def test_unusable_pictures_are_refused(images: Tensor, textures: Tensor, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make_simulator(source(images), source(textures), PAPER)

    assert all(word in str(caught.value) for word in words)


def test_profiles_are_those_of_the_paper_and_the_published_code() -> None:
    assert PROFILES == {"paper": PAPER, "upstream": UPSTREAM, "varied": VARIED}
    assert all(profile.profile == name for name, profile in PROFILES.items())
    assert [operation.name for operation in simulator(PAPER).operations][:2] == [
        "posterize",
        "sharpness",
    ]
    assert len(simulator(PAPER).operations) == 7
    assert len(simulator(UPSTREAM).operations) == 10
    assert (PAPER.opacity, UPSTREAM.opacity) == ((0.1, 1), (0.2, 1))
    assert (PAPER.rotation_degrees, UPSTREAM.rotation_degrees) == (45, 90)
    assert (UPSTREAM.rotation_share, UPSTREAM.clean_share) == (0.3, 0.5)
    assert UPSTREAM.threshold == (0.5, 0.5)


def test_gradient_directions_are_uniform() -> None:
    angles = uniform_angles(4, 32, torch.Generator().manual_seed(0))

    assert 0 <= float(angles.min()) < 0.01
    assert 2 * math.pi - 0.01 < float(angles.max()) < 2 * math.pi
    assert float(angles.cos().mean()) == pytest.approx(0, abs=0.03)
    assert float(angles.sin().mean()) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("finest", [1, 4, 32])
def test_gradients_suffice_for_every_rotation_of_a_square(finest: int) -> None:
    nodes = uniform_angles(1, finest, torch.Generator().manual_seed(0)).shape[1]

    for part in pixel_grid(64, 64, torch.arange(-90.0, 91)):
        lattice = (part * finest / 64).floor()
        needed = lattice.amax((1, 2)) + 1 - lattice.amin((1, 2)) + 1
        assert int(needed.max()) <= nodes


@pytest.mark.parametrize("colored", [False, True])
def test_grey_products_get_grey_anomalies(colored: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    grey = torch.randint(0, 256, (4, 1, 32, 32), generator=generator, dtype=torch.uint8)
    images = grey.expand(-1, 3, -1, -1).clone()
    if colored:
        images[:, 0] //= 2
    textures = torch.randint(0, 256, (5, 3, 32, 32), generator=generator, dtype=torch.uint8)
    profile = UPSTREAM.replace(clean_share=0.0, grey_sources=True)
    batch = make_simulator(source(images), source(textures), profile, seed=1).batch(0, 16)
    inside = (batch.simulated_images - batch.normal_images).abs() > 0
    assert inside.any()
    spread = batch.simulated_images.amax(1) - batch.simulated_images.amin(1)
    assert (spread.max() > 1e-6) == colored

    as_published = profile.replace(grey_sources=False)
    batch = make_simulator(source(images), source(textures), as_published, seed=1).batch(0, 16)
    assert (batch.simulated_images.amax(1) - batch.simulated_images.amin(1)).max() > 0.1


def test_grey_pictures_are_told_one_by_one() -> None:
    grey = pictures(3)[:, :1].expand(-1, 3, -1, -1)
    mixed = torch.cat((grey[:1], pictures(2), grey[1:], plain([0, 255], (32, 48))))

    told = are_grayscale(resident(mixed))

    assert told.dtype == torch.bool
    assert told.device.type == "cpu"
    assert told.tolist() == [True, False, False, True, True, True, True]
    assert is_grayscale(resident(grey))
    assert not is_grayscale(resident(mixed))


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_less_than_a_level_of_colour_on_average_is_grey(channel: int, sign: int) -> None:
    images = plain([100, 100, 100], (10, 10)).clone()
    images[0, channel, :9] += sign
    images[1, channel] += sign
    images[2, channel, :1, :2] += 60 * sign

    assert are_grayscale(resident(images)).tolist() == [True, False, False]


def test_many_pictures_are_told_as_they_are_alone() -> None:
    images = pictures(150, (4, 5))
    images[::7] = images[::7, :1]

    expected = [number % 7 == 0 for number in range(150)]
    assert are_grayscale(resident(images)).tolist() == expected
    assert [bool(are_grayscale(resident(image[None]))) for image in images] == expected


def test_rectangles_take_the_place_of_noise() -> None:
    made = simulator(PAPER.replace(mask_shape="rectangle", rotation_share=0), (32, 48))

    masks = made.batch(0, 64).anomaly_mask[:, 0]

    assert bool(masks.flatten(1).any(1).all())
    for mask in masks:
        # Any union of boxes: within each row the marked runs start and end where boxes do.
        assert len({tuple(row.tolist()) for row in mask}) <= 7
    one = next(mask for mask in masks if len({tuple(row.tolist()) for row in mask}) == 2)
    rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
    box = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert bool((box == 1).all())


def test_a_rectangle_covers_what_it_was_drawn_to() -> None:
    draws = torch.zeros(1, 3, 5)
    draws[0, 0] = torch.tensor([0.5, 0.0, 0.0, 0.999, 0.9])  # 0.21 high, 0.02 wide, top right
    draws[0, 1:, 4] = 0.9  # not there

    marked = rectangles((100, 50), draws)[0]

    expected = torch.zeros(100, 50, dtype=torch.bool)
    expected[:21, 49:] = True
    assert torch.equal(marked, expected)


def test_the_other_parameters_are_what_they_would_be_without_rectangles() -> None:
    perlin, boxes = (simulator(PAPER.replace(mask_shape=s)) for s in ("perlin", "rectangle"))

    assert torch.equal(perlin.batch(1, 6).normal_images, boxes.batch(1, 6).normal_images)
    assert torch.equal(perlin.batch(1, 6).opacity, boxes.batch(1, 6).opacity)
