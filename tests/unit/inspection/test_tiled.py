from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from draem.errors import InputError
from draem.imaging.roi import encode_roi
from draem.inspection import tiled as module
from draem.inspection.inspector import Inspector
from draem.inspection.loading import load
from draem.inspection.regions import Region, find_regions
from draem.inspection.runtime import RuntimeOutput
from draem.inspection.scoring import anomaly_score, filter_side, mean_filter
from draem.inspection.tiled import TiledStrategy, tiled_regions, tiled_score
from draem.model_card import ModelCard
from tests.support import network_config

Make = Callable[..., Inspector]


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def run_tiles(
    run: Callable[[NDArray[np.uint8]], RuntimeOutput],
    image: NDArray[np.uint8],
    tile_size: tuple[int, int],
    overlap: int,
    side: int,
) -> RuntimeOutput:
    """One image by tiles, as a batch of one."""
    smoothing = 256 * side / min(tile_size)
    network = network_config(image_size=tile_size, smoothing=round(smoothing))
    network = network.replace(tile=tile_size[0], overlap=overlap)
    assert filter_side(*tile_size, network.smoothing) == side
    (output,) = TiledStrategy(SimpleNamespace(run=run), network, None).run([image])
    return RuntimeOutput(
        output.anomaly_map[None],
        np.array([output.anomaly_score], np.float32),
        None if output.reconstruction is None else output.reconstruction[None],
    )


def whole_regions(
    plane: NDArray[np.float32], level: float, side: int, pixel_threshold: float | None = None
) -> tuple[Region, ...]:
    smoothed = mean_filter(plane, side)
    return find_regions(plane, level, plane.shape, smoothed, side, pixel_threshold=pixel_threshold)


class Recorder:
    """The map is the red channel; what it was asked to run is kept."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        self.shapes.append(images.shape)
        maps = images[..., 0].astype(np.float32) / 255
        # Scores of tiles have no say.
        return RuntimeOutput(maps, np.full(len(images), 0.999, np.float32), 255 - images)


@pytest.mark.parametrize("size", [(64, 64), (200, 150), (161, 64), (20, 300), (1, 1), (63, 65)])
@pytest.mark.parametrize("overlap", [0, 8, 32])
def test_what_depends_on_pixels_alone_is_reproduced_exactly(
    size: tuple[int, int], overlap: int
) -> None:
    image = picture(*size)

    output = run_tiles(Recorder().run, image, (64, 64), overlap, 5)

    expected = image[..., 0].astype(np.float32) / 255
    np.testing.assert_array_equal(output.anomaly_maps, expected[None])
    np.testing.assert_array_equal(output.reconstructions, 255 - image[None])
    assert output.anomaly_maps.dtype == output.anomaly_scores.dtype == np.float32
    assert output.reconstructions.dtype == np.uint8
    assert output.anomaly_scores == pytest.approx(mean_filter(expected, 5).max(), abs=1e-6)


def test_a_model_without_reconstructions_gives_none() -> None:
    def run(images: NDArray[np.uint8]) -> RuntimeOutput:
        return Recorder().run(images)._replace(reconstructions=None)

    output = run_tiles(run, picture(100, 90), (64, 64), 8, 5)
    assert output.reconstructions is None
    assert output.anomaly_maps.shape == (1, 100, 90)


def test_a_model_runs_small_batches_of_tiles_alone() -> None:
    recorder = Recorder()
    run_tiles(recorder.run, picture(200, 400), (64, 64), 8, 5)
    assert sum(shape[0] for shape in recorder.shapes) == 4 * 7
    assert {shape[1:] for shape in recorder.shapes} == {(64, 64, 3)}
    assert {shape[0] for shape in recorder.shapes} == {4}


def test_tiles_that_differ_are_blended_by_their_weights() -> None:
    numbers = iter(range(100))

    def run(images: NDArray[np.uint8]) -> RuntimeOutput:
        levels = np.array([next(numbers) for _ in images], np.float32) / 10
        maps = np.ones(images.shape[:3], np.float32) * levels[:, None, None]
        return RuntimeOutput(maps, levels, images)

    found = run_tiles(run, picture(112, 112), (64, 64), 16, 1).anomaly_maps[0]

    ramp = np.cos(np.pi / 2 * (np.arange(16) + 0.5) / 16) ** 2
    first = np.concatenate((np.ones(48), ramp, np.zeros(48)))
    rows, columns = first[:, None], first[None]
    expected = (
        0.1 * rows * (1 - columns) + 0.2 * (1 - rows) * columns + 0.3 * (1 - rows) * (1 - columns)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_image_of_one_tile_gets_what_it_would_get_without_tiles(
    write_tiny_model: Callable[..., ModelCard], tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m.safetensors", calibration=None)
    inspector, image = load(tmp_path / "m.safetensors", device="cpu"), picture(64, 64)

    plain, tiled = inspector.inspect(image), inspector.with_tiles(64, 16).inspect(image)

    assert plain.anomaly_map.std() > 1e-3, "this image could not tell one map from another"
    np.testing.assert_array_equal(tiled.anomaly_map, plain.anomaly_map)
    np.testing.assert_array_equal(tiled.reconstruction, plain.reconstruction)
    assert tiled.anomaly_score == pytest.approx(plain.anomaly_score, abs=1e-6)
    assert tiled.regions == plain.regions


def test_an_even_image_shows_no_seams(tiny_model: Path) -> None:
    image = np.full((300, 300, 3), 120, np.uint8)
    inspector = load(tiny_model, device="cpu")

    def steps(overlap: int) -> tuple[float, float]:
        """The largest step across the border of a tile, and the largest within one tile."""
        plane = inspector.with_tiles(64, overlap).inspect(image).anomaly_map
        change = np.abs(np.diff(plane, axis=1))
        borders = [left - 1 for left in range(64 - overlap, 236, 64 - overlap)]
        alone = inspector.inspect(image[:64, :64]).anomaly_map
        return float(change[:, borders].max()), float(np.abs(np.diff(alone, axis=1)).max())

    across, within = steps(16)
    hard, _ = steps(0)
    assert hard > within / 4, "this network could not show a seam"
    assert across < hard / 10


def test_an_even_map_stays_even() -> None:
    found = run_tiles(Recorder().run, np.full((333, 222, 3), 77, np.uint8), (64, 64), 16, 5)
    assert np.unique(found.anomaly_maps).tolist() == [np.float32(77) / np.float32(255)]
    assert np.unique(found.reconstructions).tolist() == [255 - 77]


@pytest.mark.parametrize("side", [1, 3, 21, 101])
@pytest.mark.parametrize("size", [(256, 100), (700, 90), (20, 30), (513, 64)])
def test_the_score_in_strips_is_that_of_the_whole(size: tuple[int, int], side: int) -> None:
    plane = np.random.default_rng(side).random(size).astype(np.float32)
    # The highest place in turn on the border of two strips and elsewhere.
    for row in (255, 256, 100):
        if row < size[0]:
            plane[row - 2 : row + 3] += np.float32(0.5)
        assert tiled_score(plane, side) == pytest.approx(mean_filter(plane, side).max(), abs=1e-6)


def blobs(seed: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Faint noise with spots and lines, some of them connected over hundreds of pixels."""
    rng = np.random.default_rng(seed)
    plane = rng.random(size) ** 4 * 0.5
    for _ in range(rng.integers(1, 25)):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        height, width = rng.integers(1, 12, 2)
        if rng.random() < 0.2:
            height, width = rng.permutation([rng.integers(50, 400), 3])
        plane[top : top + height, left : left + width] = rng.uniform(0.5, 1)
    return plane.astype(np.float32)


@pytest.mark.parametrize("side", [1, 5, 41])
@pytest.mark.parametrize("seed", range(2))
def test_a_pixel_threshold_marks_in_parts_as_it_does_in_the_whole(seed: int, side: int) -> None:
    plane = blobs(seed, (400 + 37 * seed, 530))
    score = tiled_score(plane, side)
    for level in (score, 0.6 * score):
        for pixel_threshold in (0.1, 0.55, 0.97, 1.2):
            found = tiled_regions(plane, score, level, side, pixel_threshold)
            whole = whole_regions(plane, level, side, pixel_threshold)
            assert set(found) == set(whole)
            assert found


@pytest.mark.parametrize("side", [1, 5, 41])
@pytest.mark.parametrize("seed", range(4))
def test_regions_found_in_parts_are_those_of_the_whole(seed: int, side: int) -> None:
    plane = blobs(seed, (400 + 37 * seed, 530))
    score = tiled_score(plane, side)
    thresholds = [score, 0.9 * score, 0.5 * score, 0.2, float(np.nextafter(score, 2)), 0.01]
    for level in thresholds:
        found = tiled_regions(plane, score, level, side)
        whole = whole_regions(plane, level, side) if score >= level else ()
        assert set(found) == set(whole)
        assert bool(found) == (score >= level)
        assert all(first.peak >= second.peak for first, second in pairwise(found))


def test_a_part_holds_the_surroundings_that_decide_on_its_region() -> None:
    plane = np.full((400, 800), 0.49, np.float32)
    plane[96:192, 96:192] = 1
    # Exactly one cell, which alarms by what lies around it alone: 0.49 + 0.51 * 16**2 / 41**2.
    plane[160:176, 640:656] = 1
    found = tiled_regions(plane, tiled_score(plane, 41), 0.56, 41)
    assert {region.box for region in found} == {(96, 96, 96, 96), (640, 160, 16, 16)}


def test_parts_hold_no_more_than_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = np.zeros((2000, 2000), np.float32)
    plane[100:110, 100:110] = plane[1900:1910, 1500:1510] = 0.9
    seen: list[tuple[int, ...]] = []

    def watched(part: NDArray[np.float32], *arguments: Any, **options: Any) -> object:
        seen.append(part.shape)
        return find_regions(part, *arguments, **options)

    monkeypatch.setattr(module, "find_regions", watched)
    found = tiled_regions(plane, 0.9, 0.5, 5)
    assert [region.box for region in found] == [(100, 100, 10, 10), (1500, 1900, 10, 10)]
    assert len(seen) == 2
    assert max(max(shape) for shape in seen) <= 4 * 16


# Inspector


def tiled(make: Make, **facts: object) -> Inspector:
    return make(**facts).with_tiles(64, 16)


def test_a_small_defect_of_a_large_image_is_found_where_it_is(red_inspector: Make) -> None:
    image = np.zeros((500, 700, 3), np.uint8)
    image[301:309, 402:412, 0] = 204
    # Resized to the network's 64x64 it would be less than a pixel.
    assert red_inspector(0.3).inspect(image).is_anomalous is False
    found = tiled(red_inspector, threshold=0.3).inspect(image)
    assert found.is_anomalous is True
    assert [region.box for region in found.regions] == [(402, 301, 10, 8)]
    assert found.regions[0].area == 80
    assert found.anomaly_map.shape == (500, 700)
    assert found.reconstruction.shape == image.shape
    # The filter is that of a tile: 5 pixels at 64.
    assert found.anomaly_score == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (20, 31), (1, 500), (150, 64)])
def test_images_of_any_size_are_inspected(red_inspector: Make, size: tuple[int, int]) -> None:
    image = picture(*size)
    found = tiled(red_inspector).inspect(image)
    np.testing.assert_array_equal(found.anomaly_map, image[..., 0].astype(np.float32) / 255)
    assert found.anomaly_score == pytest.approx(anomaly_score(found.anomaly_map, 5), abs=1e-6)
    assert found.is_anomalous == bool(found.regions)
    for region in found.regions:
        x, y, width, height = region.box
        assert 0 <= x < x + width <= size[1]
        assert 0 <= y < y + height <= size[0]


def test_a_region_of_interest_is_that_of_the_whole_image(red_inspector: Make) -> None:
    image = picture(150, 200)
    image[..., 0] //= 4
    image[20:30, 20:30, 0] = image[100:110, 150:160, 0] = 255
    mask = np.zeros((150, 200), bool)
    mask[:, :100] = True
    inspector = Inspector(
        red_inspector().card, red_inspector()._runtime, min_area=4, region_of_interest=mask
    ).with_tiles(64, 16)
    found = inspector.inspect(image)
    everywhere = tiled(red_inspector).inspect(image)
    assert [region.box for region in found.regions] == [(20, 20, 10, 10)]
    assert len(everywhere.regions) == 2
    assert not found.anomaly_map[:, 101:].any()
    np.testing.assert_array_equal(found.anomaly_map[:, :99], everywhere.anomaly_map[:, :99])
    assert inspector.min_area == 4


def test_the_models_own_region_of_interest_holds_for_tiles_too(red_inspector: Make) -> None:
    whole = red_inspector()
    inside = np.zeros((64, 64), bool)
    inside[:, :32] = True
    card = whole.card.model_copy(update={"region_of_interest": encode_roi(inside)})
    tiled = Inspector(card, Recorder()).with_tiles(64)
    image = np.zeros((200, 160, 3), np.uint8)
    image[50:90, 20:60, 0] = 200
    image[50:90, 100:140, 0] = 250

    found = tiled.inspect(image)

    assert [region.box for region in found.regions] == [(20, 50, 40, 40)]
    assert not found.anomaly_map[:, 80:].any()


def test_a_mask_keeps_its_detail_when_tiles_are_asked_for(red_inspector: Make) -> None:
    whole = red_inspector()
    strip = np.zeros((1024, 1024), bool)
    strip[480:520] = True
    tiled = Inspector(whole.card, Recorder(), region_of_interest=strip).with_tiles(64)

    assert tiled.region_of_interest is not None
    assert np.array_equal(tiled.region_of_interest, strip)


def test_a_tiled_model_does_so_by_itself(
    write_tiny_model: Callable[..., ModelCard], tmp_path: Path
) -> None:
    path, image = tmp_path / "m.safetensors", picture(100, 130)
    write_tiny_model(path, tile=64, overlap=8)
    inspector = load(path, device="cpu")
    found = inspector.inspect(image)
    np.testing.assert_array_equal(
        found.anomaly_map, inspector.with_tiles(64, 8).inspect(image).anomaly_map
    )
    assert inspector.with_tiles(64).card.network == inspector.card.network
    other = inspector.with_tiles(overlap=32)
    assert other.card.network.overlap == 32
    assert (other.inspect(image).anomaly_map != found.anomaly_map).any()


def test_tiles_that_do_not_suit_the_model_are_refused(red_inspector: Make) -> None:
    with pytest.raises(InputError, match=r"64x64.*Found 128x128.*--tile"):
        red_inspector().with_tiles(128)
    with pytest.raises(InputError, match=r"32x64.*Found 64x64"):
        red_inspector(image_size=(32, 64)).with_tiles(64)
    with pytest.raises(InputError, match=r"not tiled.*--tile 64"):
        red_inspector().with_tiles(overlap=8)
    for overlap in (-1, 33):
        with pytest.raises(InputError, match="0 to 32 pixels"):
            red_inspector().with_tiles(64, overlap)


def test_what_is_no_rgb_image_is_refused(red_inspector: Make) -> None:
    with pytest.raises(InputError, match="uint8"):
        tiled(red_inspector).inspect(np.zeros((100, 100, 3)))  # type: ignore[arg-type]


def test_a_score_that_is_not_finite_is_refused(red_inspector: Make) -> None:
    class Broken:
        def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
            maps = np.full(images.shape[:3], np.nan, np.float32)
            return RuntimeOutput(maps, np.full(len(images), np.nan, np.float32), images)

    with pytest.raises(InputError, match="not finite"):
        Inspector(tiled(red_inspector).card, Broken()).inspect(picture(100, 100))
