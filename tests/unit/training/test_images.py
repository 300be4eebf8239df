from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.config import Recipe, auto_image_size
from draem.datasets.image_cache import Cache
from draem.datasets.split import train_held_out_split
from draem.errors import DatasetError, ImageError, InputError
from draem.imaging.tiles import cut_tiles, plan_tiles
from draem.training.images import (
    read_roi,
    read_run_images,
    resolve_recipe,
)
from draem.training.recipe import (
    make_recipe,
)


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a picture of each of these sizes, given as height and width."""

    def make(*sizes: tuple[int, int]) -> Path:
        for number, (height, width) in enumerate(sizes):
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number:03d}.png")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        (1.0, (256, 256)),
        (1.06, (256, 256)),
        (1.07, (288, 256)),
        (1 / 1.07, (256, 288)),
        (4 / 3, (352, 256)),
        (3 / 4, (256, 352)),
        (2.0, (512, 256)),
        (0.5, (256, 512)),
        (8.0, (2048, 256)),
        (100.0, (2048, 256)),
        (0.001, (256, 2048)),
    ],
)
def test_auto_keeps_the_proportions_in_multiples_of_32(ratio: float, size: tuple[int, int]) -> None:
    assert auto_image_size(ratio, 100) == size


@pytest.mark.parametrize(
    ("shorter", "side"),
    [(1, 256), (256, 256), (270, 256), (290, 288), (500, 512), (512, 512), (4000, 512)],
)
def test_auto_keeps_the_shorter_side_within_limits(shorter: float, side: int) -> None:
    assert auto_image_size(1.0, shorter) == (side, side)
    assert auto_image_size(2.0, shorter) == (2 * side, side)


@pytest.mark.parametrize("shorter", [100, 333, 800])
def test_auto_sizes_always_suit_the_network(shorter: int) -> None:
    for ratio in np.geomspace(0.05, 20, 301):
        height, width = auto_image_size(float(ratio), shorter)
        assert 256 <= min(height, width) <= 512
        assert max(height, width) <= 2048
        assert height % 32 == width % 32 == 0
        if 1 / 4 < ratio < 4:
            assert (height / width) / ratio == pytest.approx(1, abs=16 / 256)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(90, 60)], (384, 256)),
        ([(60, 90)], (256, 384)),
        ([(40, 40)], (256, 256)),
        # The median: one odd image among many does not count.
        ([(60, 90), (60, 90), (300, 20)], (256, 384)),
        # Nor does one large image.
        ([(400, 800), (20, 40), (50, 100)], (256, 512)),
        ([(300, 500), (320, 600), (310, 460)], (320, 544)),
    ],
)
def test_auto_goes_by_the_training_images(
    folder_of: Callable[..., Path],
    sizes: Sequence[tuple[int, int]],
    expected: tuple[int, int],
) -> None:
    recipe = make_recipe("compact", overrides={"training": {"seed": 7}})

    fixed = resolve_recipe(recipe, folder_of(*sizes))

    assert fixed.network.image_size == expected
    assert recipe.network.image_size == "auto"
    network = recipe.network.model_copy(update={"image_size": expected, "scales": 2})
    assert fixed == recipe.model_copy(update={"network": network}).resolve()


def test_auto_reads_the_training_images_of_a_category_alone(
    folder_of: Callable[..., Path],
) -> None:
    root = folder_of((30, 60))
    for folder in ("train/good", "test/good", "test/bad"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (30, 45)).save(root / "test/good/a.png")
    Image.new("RGB", (30, 45)).save(root / "test/bad/a.png")
    (root / "000.png").rename(root / "train/good/a.png")

    assert resolve_recipe(make_recipe("compact"), root).network.image_size == (256, 512)


def test_auto_takes_photographs_as_they_are_seen(tmp_path: Path) -> None:
    lying = Image.new("RGB", (90, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    lying.save(tmp_path / "a.jpg", exif=exif)

    assert resolve_recipe(make_recipe("compact"), tmp_path).network.image_size == (384, 256)


def test_a_stated_size_stays_and_reads_no_image(tmp_path: Path) -> None:
    stated = {"network": {"image_size": (64, 96), "scales": 3}}
    recipe = make_recipe("compact", overrides=stated)

    assert resolve_recipe(recipe, tmp_path / "nowhere") == recipe.resolve()


@pytest.mark.parametrize(
    ("size", "scales", "coarse"), [((256, 512), 2, 0.5), ((224, 512), 1, 0.0), ((128, 128), 1, 0.0)]
)
def test_small_images_are_looked_at_once(
    tmp_path: Path, size: tuple[int, int], scales: int, coarse: float
) -> None:
    recipe = make_recipe("compact", overrides={"network": {"image_size": size}})

    made = resolve_recipe(recipe, tmp_path / "nowhere")

    assert made.network.scales == scales
    assert made.simulation.coarse_share == coarse


def test_stated_shares_and_scales_stay(tmp_path: Path) -> None:
    stated = {
        "network": {"image_size": (128, 128), "scales": "auto"},
        "simulation": {"coarse_share": 0.2},
    }
    recipe = make_recipe("compact", overrides=stated)
    assert resolve_recipe(recipe, tmp_path).simulation.coarse_share == 0.2
    assert recipe.simulation.profile == "varied"
    enough = {"network": {"image_size": (256, 256)}}
    for never in ({"profile": "paper"}, {"coarse_share": 0.0}):
        unseen = make_recipe("compact", overrides={"simulation": never, **enough})
        assert resolve_recipe(unseen, tmp_path).network.scales == 1


def test_unreadable_images_have_no_say_in_the_size(folder_of: Callable[..., Path]) -> None:
    root = folder_of((90, 60), (90, 60))
    (root / "empty.png").touch()
    (root / "text.png").write_text("no image")
    (root / "cut.png").write_bytes((root / "000.png").read_bytes()[:20])
    Image.new("RGB", (3, 300)).save(root / "thin.png")

    assert resolve_recipe(make_recipe("compact"), root).network.image_size == (384, 256)


def test_where_nothing_can_be_read_the_size_is_square_and_decoding_says_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty.png").touch()

    recipe = resolve_recipe(make_recipe("compact"), tmp_path)

    assert recipe.network.image_size == (256, 256)
    with pytest.raises(DatasetError, match=r"empty\.png"):
        read_run_images(tmp_path, recipe)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_without_images_there_is_no_size(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError):
        resolve_recipe(make_recipe("compact"), tmp_path / name)


def test_images_are_read_once_the_size_is_known(folder_of: Callable[..., Path]) -> None:
    root = folder_of((90, 60), (90, 60), (90, 60))
    recipe = make_recipe("compact", overrides={"simulation": {"textures": str(root)}})
    images = read_run_images(root, resolve_recipe(recipe, root))

    assert images.training.shape == (2, 3, 384, 256)
    assert images.held_out.shape == (1, 3, 384, 256)
    # `varied` cuts windows from its textures, which therefore need no proportions of the images.
    assert images.textures.shape == (3, 3, 256, 256)


SQUARE = [[(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]]


def recipe_with(tmp_path: Path, **interest: object) -> Recipe:
    """At 64x96; the textures are the images themselves."""
    return make_recipe(
        overrides={
            "network": {"image_size": (64, 96)},
            "simulation": {"textures": str(tmp_path)},
            "region_of_interest": interest,
        }
    )


def test_a_region_of_interest_is_read_at_the_size_of_the_network(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = folder_of((128, 192), (64, 96))
    paths = sorted(folder.iterdir())
    expected = np.zeros((64, 96), bool)
    expected[16:48, 24:72] = True
    mask = tmp_path / "elsewhere" / "mask.png"
    mask.parent.mkdir()
    Image.fromarray(expected.repeat(3, 0).repeat(3, 1)).save(mask)
    for interest in ({"polygons": SQUARE}, {"mask": str(mask)}):
        inside = read_roi(recipe_with(folder, **interest), paths)
        assert inside is not None
        assert (inside == expected).all()
    everything = [[(0, 0), (1, 0), (1, 1), (0, 1)]]
    assert read_roi(recipe_with(folder, polygons=everything), paths) is None
    assert read_roi(recipe_with(folder), paths) is None


def test_a_region_of_interest_that_cannot_be_used_is_refused(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = folder_of((64, 96))
    paths = sorted(folder.iterdir())
    mask = tmp_path / "elsewhere" / "mask.png"
    mask.parent.mkdir()
    with pytest.raises(ImageError, match=r"mask\.png: does not exist"):
        read_roi(recipe_with(folder, mask=str(mask)), paths)
    Image.new("L", (96, 96), 255).save(mask)
    with pytest.raises(InputError, match=r"mask\.png: .*proportions.*96x64.*Found 96x96"):
        read_roi(recipe_with(folder, mask=str(mask)), paths)
    Image.new("L", (96, 64), 0).save(mask)
    with pytest.raises(InputError, match=r"mask\.png: .*nothing to inspect"):
        read_roi(recipe_with(folder, mask=str(mask)), paths)
    line = [[(0.1, 0.1), (0.9, 0.9), (0.5, 0.5)]]
    with pytest.raises(InputError, match="nothing to inspect"):
        read_roi(recipe_with(folder, polygons=line), paths)


def test_the_region_of_interest_is_part_of_what_a_resumed_run_must_find(
    folder_of: Callable[..., Path],
) -> None:
    folder = folder_of((64, 96), (64, 96), (64, 96))
    higher = [[(x, y - 0.1) for x, y in SQUARE[0]]]
    plain, one, other = (
        read_run_images(folder, recipe_with(folder, **interest))
        for interest in ({}, {"polygons": SQUARE}, {"polygons": higher})
    )
    assert plain.region_of_interest is None
    assert one.region_of_interest is not None
    assert one.region_of_interest.sum() == 32 * 48
    assert plain.fingerprint == one.fingerprint == other.fingerprint
    hashes = {images.full_fingerprint for images in (plain, one, other)}
    assert len(hashes) == 3


def test_tiles_are_cut_at_the_images_own_resolution_and_held_out_by_image(
    folder_of: Callable[..., Path],
) -> None:
    sizes = [(50, 90), (32, 32), (20, 100), (70, 40), (64, 64)]
    root = folder_of(*sizes)
    overrides = {
        "network": {"tile": 32, "overlap": 8},
        "simulation": {"textures": str(root)},
        "training": {"held_out_share": 0.4},
    }
    recipe = make_recipe("compact", overrides=overrides)

    images = read_run_images(root, resolve_recipe(recipe, root))

    held_out, kept = train_held_out_split(np.arange(5), 0.4, recipe.training.seed)
    assert images.count == len(kept) == 3
    pixels = [np.array(Image.open(root / f"{number:03d}.png")) for number in range(5)]
    expected = [
        tile
        for number in kept
        for tile in cut_tiles(pixels[number], plan_tiles(sizes[number], (32, 32), 8))
    ]
    assert images.training.shape == (len(expected), 3, 32, 32)
    np.testing.assert_array_equal(images.training[:], expected)
    # Held-out images come back whole, whatever tiles they were cut into.
    whole = list(images.whole_held_out())
    assert len(whole) == 2
    for number, image in zip(held_out, whole, strict=True):
        np.testing.assert_array_equal(image, pixels[number])
    assert images.held_out.shape[1:] == (3, 32, 32)
    assert images.textures.shape[2:] == (32, 32)


def test_without_tiles_the_held_out_images_come_back_as_they_are(
    folder_of: Callable[..., Path],
) -> None:
    root = folder_of((32, 32), (32, 32))
    overrides = {"network": {"image_size": (32, 32)}, "simulation": {"textures": str(root)}}
    images = read_run_images(root, make_recipe("compact", overrides=overrides))
    assert images.count == 1
    np.testing.assert_array_equal(list(images.whole_held_out()), images.held_out[:])


def test_tiles_without_held_out_images(folder_of: Callable[..., Path]) -> None:
    root = folder_of((40, 40), (32, 70))
    overrides = {
        "network": {"tile": 32},
        "simulation": {"textures": str(root)},
        "training": {"held_out_share": 0.0},
    }
    images = read_run_images(root, make_recipe("compact", overrides=overrides))
    assert images.count == 2
    assert len(images.training) == 4 + 3
    assert len(images.held_out) == 0


@pytest.mark.parametrize("network", [{"image_size": (32, 32)}, {"tile": 32}])
@pytest.mark.parametrize("cached", [False, True])
def test_no_group_is_on_both_sides(
    folder_of: Callable[..., Path], tmp_path: Path, network: dict[str, object], cached: bool
) -> None:
    root = folder_of(*[(40, 30 + number) for number in range(24)])
    numbers = {}
    for number, path in enumerate(sorted(root.iterdir())):
        numbers[np.array(Image.open(path)).tobytes()] = number
        path.rename(path.with_name(f"part{number // 3}_view{number % 3}.png"))
    overrides = {
        "network": network,
        "simulation": {"textures": str(root)},
        "training": {"held_out_share": 0.25},
    }
    recipe = make_recipe("compact", overrides=overrides).resolve()
    cache = Cache("always", tmp_path / "cache") if cached else None

    images = read_run_images(root, recipe, cache=cache)

    assert images.grouping == "24 images in 8 groups (by name)"
    assert (images.count, len(images.groups), len(images.held_out_groups)) == (18, 18, 6)
    assert not set(images.groups) & set(images.held_out_groups)
    if "tile" in network:  # only tiles keep the pictures as they are
        found = [numbers[image.tobytes()] // 3 for image in images.whole_held_out()]
        assert found == list(images.held_out_groups)
    again = read_run_images(root, recipe)
    assert again.full_fingerprint == images.full_fingerprint


def test_images_that_cannot_be_grouped_as_asked_are_refused(
    folder_of: Callable[..., Path],
) -> None:
    root = folder_of(*[(32, 32)] * 5)
    for group_by, message in (("folder", "into 1 group"), ("lot", "matches no file name")):
        overrides = {"training": {"group_by": group_by}}
        recipe = make_recipe("compact", overrides=overrides)
        with pytest.raises(DatasetError, match=message):
            read_run_images(root, resolve_recipe(recipe, root))
