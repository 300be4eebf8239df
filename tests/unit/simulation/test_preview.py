from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from draem.config import UPSTREAM, VARIED, ProfileName
from draem.errors import DatasetError, RecipeError, TextureError
from draem.imaging.encode import write_png
from draem.simulation import preview
from draem.simulation.preview import simulate, simulation_sheet, to_pictures
from draem.simulation.simulator import SimulatedBatch

LEVELS = (40, 90, 140, 190)


def plain(level: int) -> npt.NDArray[np.uint8]:
    return np.full((40, 60, 3), level, np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, level in enumerate(LEVELS):
        write_png(folder / f"{number}.png", plain(level))
    return folder


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    folder = tmp_path / "textures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        write_png(folder / f"{number}.png", rng.integers(0, 256, (50, 50, 3), dtype=np.uint8))
    return folder


@pytest.mark.parametrize("profile", ["paper", "upstream"])
def test_samples_are_made_from_the_images_given(
    data: Path, textures: Path, profile: ProfileName
) -> None:
    batch = simulate(data, samples=8, profile=profile, textures=textures, image_size=(32, 64))

    assert batch.normal_images.shape == batch.simulated_images.shape == (8, 3, 32, 64)
    middles = (255 * batch.normal_images[:, 0, 16, 24]).round().int()
    assert sorted(middles.tolist()) == sorted(2 * LEVELS)
    marked = batch.anomaly_mask.expand(-1, 3, -1, -1) == 1
    assert marked.any()
    assert (batch.simulated_images != batch.normal_images)[marked].float().mean() > 0.9
    assert torch.equal(batch.simulated_images[~marked], batch.normal_images[~marked])


@pytest.mark.parametrize(("crop", "window"), [(16, (16, 16)), (48, (32, 48)), (None, (32, 64))])
def test_varied_samples_are_windows_into_the_images_given(
    data: Path, textures: Path, crop: int | None, window: tuple[int, int]
) -> None:
    profile = VARIED.replace(crop=crop, clean_share=0)

    batch = simulate(data, samples=8, profile=profile, textures=textures, image_size=(32, 64))

    assert batch.normal_images.shape == batch.simulated_images.shape == (8, 3, *window)
    levels = (255 * batch.normal_images[:, 0, 8, 8]).round().int()
    assert sorted(levels.tolist()) == sorted(2 * LEVELS)
    marked = batch.anomaly_mask.expand(-1, 3, -1, -1) == 1
    assert marked.any()
    assert (batch.simulated_images != batch.normal_images)[marked].float().mean() > 0.8


def test_the_varied_profile_goes_by_its_name(data: Path, textures: Path) -> None:
    named, given = (
        simulate(data, samples=4, profile=profile, textures=textures, image_size=(32, 64))
        for profile in ("varied", VARIED)
    )

    assert all(torch.equal(*pair) for pair in zip(named, given, strict=True))
    # Plain grey parts stay grey, whatever the textures.
    images = named.simulated_images
    assert float((images.amax(1) - images.amin(1)).max()) < 1e-5


@pytest.mark.parametrize("profile", ["upstream", "varied"])
def test_builtin_textures_serve_images_that_are_not_square(
    data: Path, profile: ProfileName
) -> None:
    batch = simulate(data, samples=2, profile=profile, image_size=(32, 64))

    assert batch.normal_images.shape == (2, 3, 32, 64)


def test_only_as_many_images_are_read_as_there_are_samples(data: Path, textures: Path) -> None:
    (data / "3.png").write_bytes(b"no image")

    batch = simulate(data, samples=3, textures=textures, image_size=(32, 32))

    assert len(batch.opacity) == 3
    with pytest.raises(DatasetError, match=r"3\.png"):
        simulate(data, samples=4, textures=textures, image_size=(32, 32))


def test_a_category_gives_its_training_images(data: Path, textures: Path, tmp_path: Path) -> None:
    category = tmp_path / "category"
    (category / "train").mkdir(parents=True)
    (category / "test" / "scratch").mkdir(parents=True)
    write_png(category / "test" / "scratch" / "0.png", plain(250))
    data.rename(category / "train" / "good")

    batch = simulate(category, samples=4, textures=textures, image_size=(32, 32))

    middles = (255 * batch.normal_images[:, 0, 16, 16]).round().int()
    assert sorted(middles.tolist()) == list(LEVELS)


def test_the_seed_decides_the_samples(data: Path, textures: Path) -> None:
    first, again, other = (
        simulate(data, samples=4, textures=textures, image_size=(32, 32), seed=seed)
        for seed in (0, 0, 1)
    )

    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first.simulated_images, other.simulated_images)


def test_builtin_textures_serve_where_none_are_given(data: Path) -> None:
    batch = simulate(data, samples=12, profile="paper", image_size=(32, 32))

    # Plain grey parts take colour from the textures alone.
    colour = batch.simulated_images.amax(1) - batch.simulated_images.amin(1)
    assert float(batch.normal_images.amax(1).sub(batch.normal_images.amin(1)).max()) == 0
    assert float(colour.max()) > 0.05


def test_unknown_profiles_are_refused(data: Path) -> None:
    with pytest.raises(RecipeError, match=r"`best`\. Expected one of paper, upstream, varied"):
        simulate(data, profile="best")  # type: ignore[arg-type]


@pytest.mark.parametrize("samples", [0, -2])
def test_too_few_samples_are_refused(data: Path, samples: int) -> None:
    with pytest.raises(RecipeError, match=f"Expected at least 1. Found {samples}"):
        simulate(data, samples=samples)


def test_folders_without_images_are_refused(data: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    with pytest.raises(DatasetError, match="empty"):
        simulate(empty)
    with pytest.raises(TextureError, match="empty"):
        simulate(data, textures=empty)


def test_a_whole_number_is_the_side_of_a_square(data: Path, textures: Path) -> None:
    batch = simulate(data, samples=2, textures=textures, image_size=32)
    assert batch.normal_images.shape == (2, 3, 32, 32)


def test_tiles_are_cut_from_the_images_as_they_are(data: Path, textures: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    write_png(data / "0.png", pixels)

    still = UPSTREAM.replace(rotation_share=0.0)
    batch = simulate(
        *(data,), samples=1, profile=still, textures=textures, image_size=32, tile_overlap=0
    )

    shown = (batch.normal_images[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    tiles = [pixels[top : top + 32, left : left + 32] for top in (0, 8) for left in (0, 28)]
    assert sum((tile == shown).all() for tile in tiles) == 1


def made_batch() -> SimulatedBatch:
    normal = torch.zeros(2, 3, 16, 24)
    normal[:, 1] = 0.8
    simulated, mask = normal.clone(), torch.zeros(2, 1, 16, 24)
    simulated[0, 0, 4:8] = 0.6
    mask[0, 0, 4:8] = 1
    return SimulatedBatch(normal, simulated, mask, torch.tensor([0.6, 0.3]))


def test_tensors_become_pictures() -> None:
    values = torch.tensor([-0.5, 0.0, 0.2, 0.999, 1.0, 7.0])
    images = values.view(1, 1, 2, 3).expand(2, 3, 2, 3).clone()
    images[1, 2] = 0.5

    pictures = to_pictures(images)

    assert pictures.shape == (2, 2, 3, 3)
    assert pictures.dtype == np.uint8
    assert pictures[0, ..., 0].ravel().tolist() == [0, 0, 51, 255, 255, 255]
    assert set(pictures[1, ..., 2].ravel().tolist()) == {128}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_precision_become_pictures(dtype: torch.dtype) -> None:
    pictures = to_pictures(torch.full((1, 3, 2, 2), 0.5, dtype=dtype))

    assert set(pictures.ravel().tolist()) == {128}


def test_levels_survive_the_way_to_tensors_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)

    pictures = to_pictures(levels.float() / 255)

    assert np.array_equal(pictures[0], levels[0].permute(1, 2, 0).numpy())


def test_the_sheet_shows_image_simulation_and_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, Any] = {}

    def note(
        rows: Sequence[Any], columns: Sequence[str], **titles: Any
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        shown.update(rows=rows, columns=columns, **titles)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(preview, "contact_sheet", note)

    simulation_sheet(made_batch(), "Samples")

    assert list(shown["columns"]) == ["normal", "simulated", "mask"]
    assert shown["title"] == "Samples"
    assert shown["row_titles"] == ["opacity 0.60", "stays normal"]
    normal, simulated, mask = shown["rows"][0]
    assert normal[5, 0].tolist() == [0, 204, 0]
    assert simulated[5, 0].tolist() == [153, 204, 0]
    assert (mask.shape, mask[5, 0], mask[0, 0]) == ((16, 24), 255, 0)


def test_the_sheet_is_one_picture_with_all_of_them() -> None:
    page = simulation_sheet(made_batch(), "Samples")

    assert page.dtype == np.uint8
    assert page.ndim == 3
    pixels = page.reshape(-1, 3)
    for color, least in (((0, 204, 0), 3), ((153, 204, 0), 0.2), ((255, 255, 255), 0.2)):
        area = (pixels == np.array(color)).all(1).sum()
        assert area > least * 192 * 128
