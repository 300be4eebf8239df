from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from draem.errors import InputError, ModelFileError
from draem.evaluation.evaluator import evaluate
from draem.imaging.roi import encode_roi, roi_at
from draem.inspection.folder import draw_overlay
from draem.inspection.inspector import Inspector
from draem.inspection.loading import load
from draem.inspection.runtime import RuntimeOutput
from draem.inspection.scoring import filter_side
from draem.inspection.whole_image import WholeImageStrategy
from draem.model_card import ModelCard
from draem.model_file import read_card, read_model, write_model
from tests.support import network_config, score_of

Make = Callable[..., Inspector]


def half(height: int = 64, width: int = 64) -> np.ndarray:
    """The left half."""
    inside = np.zeros((height, width), bool)
    inside[:, : width // 2] = True
    return inside


def two_marks() -> np.ndarray:
    """A weak mark on the left, a strong one on the right."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:30, 5:25, 0] = 150
    image[30:50, 40:60, 0] = 255
    return image


def limited(made: Inspector, own: np.ndarray | None, asked: np.ndarray | None = None) -> Inspector:
    card = made.card.model_copy(
        update={"region_of_interest": None if own is None else encode_roi(own)}
    )
    return Inspector(card, made._runtime, region_of_interest=asked)


def limit_output(output: RuntimeOutput, inside: np.ndarray | None, smoothing: int) -> RuntimeOutput:
    """What a model that gives this output says within a region of interest."""
    runtime = SimpleNamespace(run=lambda images: output)
    count, *size = output.anomaly_maps.shape
    network = network_config(image_size=size, smoothing=smoothing)
    images = np.zeros((count, *size, 3), np.uint8)
    return WholeImageStrategy(runtime, network, inside).run_batch(images)


def slow_score(plane: np.ndarray, smoothing: int) -> float:
    """The highest mean over a square, zeros beyond the border, square by square."""
    side = filter_side(*plane.shape, smoothing)
    padded = np.pad(plane.astype(float), side // 2)
    height, width = plane.shape
    return max(
        padded[y : y + side, x : x + side].mean() for y in range(height) for x in range(width)
    )


@pytest.mark.parametrize("smoothing", [5, 21])
def test_the_score_is_that_of_the_map_with_nothing_outside(smoothing: int) -> None:
    rng = np.random.default_rng(smoothing)
    maps = rng.random((3, 48, 64)).astype(np.float32)
    inside = rng.random((48, 64)) < 0.5
    scores = np.array([score_of(plane, smoothing) for plane in maps], np.float32)
    output = RuntimeOutput(maps.copy(), scores, np.zeros((3, 48, 64, 3), np.uint8))
    found = limit_output(output, inside, smoothing)
    assert (found.anomaly_maps[:, ~inside] == 0).all()
    assert (found.anomaly_maps[:, inside] == maps[:, inside]).all()
    for plane, score in zip(maps, found.anomaly_scores, strict=True):
        assert score == pytest.approx(slow_score(plane * inside, smoothing), rel=1e-5)
    assert (found.anomaly_scores <= scores).all()
    assert (output.anomaly_maps == maps).all()
    assert found.reconstructions is output.reconstructions
    assert (found.anomaly_maps.dtype, found.anomaly_scores.dtype) == (np.float32, np.float32)


def test_without_a_region_of_interest_the_output_stays_what_it_is(red_inspector: Make) -> None:
    made = red_inspector()
    output = made._runtime.run(two_marks()[None])
    assert limit_output(output, None, 21) is output
    everything = limit_output(output, np.ones((64, 64), bool), 21)
    for first, second in zip(everything, output, strict=True):
        assert (first == second).all()


def test_a_region_of_interest_that_is_everything_changes_nothing(tiny_model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    plain = load(tiny_model, device="cpu")
    for made in (
        limited(plain, np.ones((64, 64), bool)),
        load(tiny_model, device="cpu", region_of_interest=np.ones((9, 8), bool)),
    ):
        assert made.region_of_interest is None
        first, second = made.inspect(image), plain.inspect(image)
        assert first.anomaly_score == second.anomaly_score
        assert first.regions == second.regions
        assert (first.anomaly_map == second.anomaly_map).all()


@pytest.mark.parametrize("size", [(64, 64), (150, 90), (33, 200)])
def test_nothing_outside_is_seen_scored_or_marked(red_inspector: Make, size: tuple) -> None:
    image = two_marks().repeat(5, axis=0).repeat(5, axis=1)[: 5 * 64, : 5 * 64]
    rows = np.arange(size[0]) * image.shape[0] // size[0]
    columns = np.arange(size[1]) * image.shape[1] // size[1]
    image = image[rows][:, columns]
    made = red_inspector(0.4)
    whole = made.inspect(image)
    assert len(whole.regions) == 2
    found = limited(made, half()).inspect(image)
    assert (found.anomaly_map[~half(*size)] == 0).all()
    assert (limited(made, ~half()).inspect(image).anomaly_map[half(*size)] == 0).all()
    assert found.anomaly_map[:, : size[1] // 2 - 2].max() > 0.5
    assert found.regions == tuple(region for region in whole.regions if region.peak < 0.9)
    assert found.anomaly_score == pytest.approx(150 / 255, abs=0.01)
    right = limited(made, ~half()).inspect(image)
    assert right.regions == tuple(region for region in whole.regions if region.peak > 0.9)
    assert limited(red_inspector(0.7), half()).inspect(image).is_anomalous is False


def test_a_mark_on_the_border_is_cut_there(red_inspector: Make) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 20:50, 0] = 255
    (region,) = limited(red_inspector(0.5), half()).inspect(image).regions
    assert (region.box, region.area) == ((20, 20, 12, 20), 240)


def test_resizing_spreads_nothing_beyond_the_border(red_inspector: Make) -> None:
    image = np.full((256, 192, 3), 255, np.uint8)
    anomaly_map = limited(red_inspector(), half()).inspect(image).anomaly_map
    assert (anomaly_map[:, 96:] == 0).all()
    assert (anomaly_map[:, :95] > 0).all()


def test_what_is_asked_for_narrows_the_models_own(red_inspector: Make) -> None:
    made, upper = red_inspector(), np.zeros((64, 64), bool)
    upper[:32] = True
    inspector = limited(made, half(), upper)
    assert (inspector.region_of_interest == (half() & upper)).all()
    assert (limited(made, half(), np.ones((64, 64), bool)).region_of_interest == half()).all()
    # Of any size, as long as it has the images' proportions.
    assert (limited(made, None, half(640, 640)).region_of_interest == half()).all()
    with pytest.raises(InputError, match="outside the model's own"):
        limited(made, half(), ~half())


@pytest.mark.parametrize("seed", range(5))
def test_narrowing_never_raises_a_score(tiny_model: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    whole = load(tiny_model, device="cpu")
    inside = rng.random((64, 64)) < 0.8
    narrower = load(tiny_model, device="cpu", region_of_interest=inside)
    # The last digits differ between runtimes, for which thresholds have a margin.
    allowed = whole.inspect(image).anomaly_score * (1 + 1e-5)
    assert 0 < narrower.inspect(image).anomaly_score <= allowed


def test_the_model_file_keeps_it(
    write_tiny_model: Callable[..., ModelCard], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    write_tiny_model(path, region_of_interest=encode_roi(half()))
    assert (load(path, device="cpu").region_of_interest == half()).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [("damaged", "is damaged"), (encode_roi(half(32, 64)), "another size than its images")],
)
def test_a_damaged_one_in_the_model_is_explained(
    tiny_model: Path, tmp_path: Path, text: str, message: str
) -> None:
    _, state = read_model(tiny_model)
    card = read_card(tiny_model).model_copy(update={"region_of_interest": text})
    write_model(tmp_path / "model.safetensors", state, card)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "model.safetensors", device="cpu")


def test_an_evaluation_counts_defects_outside_as_missed(
    red_inspector: Make, tiny_category: Path
) -> None:
    # Squares in rows 10 to 30 and columns 20 to 40 are marked.
    made = red_inspector(0.5)
    assert evaluate(made, tiny_category).miss_rate == 0
    lower, around = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    lower[32:] = True
    around[8:32, 18:42] = True
    outside, within = (evaluate(limited(made, own), tiny_category) for own in (lower, around))
    assert outside.miss_rate == 1
    assert all(example.anomaly_map[:32].max() == 0 for example in outside.misses)
    assert within.miss_rate == 0
    assert within.metrics["pixel_ap"] == pytest.approx(1)
    assert within.model["region_of_interest_share"] == pytest.approx(24 * 24 / 64**2)


def test_the_outline_is_drawn_faintly(red_inspector: Make) -> None:
    image = np.zeros((128, 192, 3), np.uint8)
    made = limited(red_inspector(), half())
    drawn = draw_overlay(image, made.inspect(image), made.region_of_interest)
    plain = draw_overlay(image, made.inspect(image))
    line = (drawn != plain).any(axis=2)
    ys, xs = np.nonzero(line)
    assert 0 < drawn[line].max() < 128
    assert {0, 127} <= set(ys)
    assert xs.min() == 0
    assert xs.max() in (96, 97)
    assert len(ys) < drawn[..., 0].size / 20
    assert (plain[64:] == 0).all()


@pytest.mark.parametrize("size", [(64, 64), (640, 320), (20, 30)])
def test_at_the_size_of_an_image_it_covers_the_same_part(size: tuple[int, int]) -> None:
    assert (roi_at(half(), size) == half(*size)).all()
