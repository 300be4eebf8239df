from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from draem.errors import InputError, MissingDependencyError, ModelFileError
from draem.inspection.inspector import Inspection, Inspector
from draem.inspection.loading import load, model_path
from draem.inspection.runtime import RuntimeOutput
from draem.model_card import ModelCard
from draem.model_file import read_card
from tests.support import score_of


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def with_calibration(card: ModelCard, **facts: object) -> ModelCard:
    assert card.calibration is not None
    return card.model_copy(update={"calibration": card.calibration.model_copy(update=facts)})


@pytest.mark.parametrize("size", [(64, 64), (32, 200), (150, 90), (1000, 17)])
def test_an_image_of_any_size_gets_a_map_of_its_size(tiny_model: Path, size: tuple) -> None:
    inspector = load(tiny_model, device="cpu")
    found = inspector.inspect(picture(*size))
    assert found.anomaly_map.shape == size
    assert found.anomaly_map.dtype == np.float32
    assert found.anomaly_map.min() >= 0
    assert found.anomaly_map.max() <= 1
    assert found.reconstruction.shape == (64, 64, 3)
    assert found.reconstruction.dtype == np.uint8
    assert 0 <= found.anomaly_score <= 1
    assert isinstance(found.anomaly_score, float)
    assert found.threshold == inspector.threshold == 0.5
    assert found.is_anomalous == (found.anomaly_score >= 0.5) == bool(found.regions)


def test_the_numbers_are_those_of_the_map(red_inspector: Callable[..., Inspector]) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:30, 20:30, 0] = 204
    found = red_inspector(0.5).inspect(image)
    assert found.anomaly_score == pytest.approx(0.8)
    assert found.is_anomalous is True
    assert [region.box for region in found.regions] == [(20, 10, 10, 20)]
    assert found.regions[0].area == 200
    np.testing.assert_allclose(found.anomaly_map, image[..., 0] / 255, atol=1e-7)
    assert (found.reconstruction == 255 - image).all()
    assert red_inspector(0.81).inspect(image).is_anomalous is False


def test_boxes_are_in_pixels_of_the_image_that_came(
    red_inspector: Callable[..., Inspector],
) -> None:
    image = np.zeros((128, 192, 3), np.uint8)
    image[40:80, 60:120, 0] = 255
    (region,) = red_inspector(0.6).inspect(image).regions
    # Twice and three times the network's size: edges agree to within one of its pixels.
    assert np.abs(np.array(region.box) - (60, 40, 60, 40)).max() <= 3


def test_regions_below_the_smallest_area_are_not_listed_and_decide_nothing_less(
    red_inspector: Callable[..., Inspector],
) -> None:
    image = np.zeros((128, 64, 3), np.uint8)  # twice as high as the network's input
    image[20:60, 5:15, 0] = 255
    image[80:100, 40:50, 0] = 200
    whole = red_inspector(0.5).inspect(image)
    assert [region.area for region in whole.regions] == [400, 200]
    for min_area, kept in ((0, 2), (200, 2), (201, 1), (400, 1), (401, 0)):
        inspector = red_inspector(0.5)
        inspector = Inspector(inspector.card, inspector._runtime, min_area=min_area)
        found = inspector.inspect(image)
        assert found.regions == whole.regions[:kept]
        assert (found.is_anomalous, found.anomaly_score) == (True, whole.anomaly_score)


def test_a_negative_area_is_refused(tiny_model: Path) -> None:
    assert load(tiny_model, device="cpu", min_area=7).min_area == 7
    with pytest.raises(InputError, match=r"smallest area.*Expected.*0 or more.*Found -1"):
        load(tiny_model, device="cpu", min_area=-1)


def test_the_models_own_filter_decides_score_and_regions(
    write_tiny_model: Callable[..., object], tmp_path: Path
) -> None:
    image = np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8)
    found = {}
    for smoothing in (21, 85):
        path = tmp_path / f"{smoothing}.safetensors"
        write_tiny_model(path, smoothing=smoothing, calibration=None)
        found[smoothing] = load(path).inspect(image)
        own = score_of(found[smoothing].anomaly_map, smoothing)
        assert found[smoothing].anomaly_score == pytest.approx(own, abs=1e-6)
    assert found[85].anomaly_score < found[21].anomaly_score
    np.testing.assert_array_equal(found[85].anomaly_map, found[21].anomaly_map)


def test_a_score_at_the_threshold_is_anomalous(red_inspector: Callable[..., Inspector]) -> None:
    image = np.full((64, 64, 3), 51, np.uint8)
    score = red_inspector().inspect(image).anomaly_score
    at = red_inspector(score).inspect(image)
    above = red_inspector(float(np.nextafter(score, 1))).inspect(image)
    assert (at.is_anomalous, bool(at.regions)) == (True, True)
    assert (above.is_anomalous, above.regions) == (False, ())


def test_between_two_thresholds_a_person_decides(
    red_inspector: Callable[..., Inspector],
) -> None:
    inspector = red_inspector(0.5)
    inspector.card = with_calibration(inspector.card, review_threshold=0.25, review_rate=0.2)
    images = {level: np.full((64, 64, 3), level, np.uint8) for level in (50, 100, 200)}
    found = {level: inspector.inspect(image) for level, image in images.items()}
    assert [f.decision for f in found.values()] == ["pass", "review", "reject"]
    assert [f.is_anomalous for f in found.values()] == [False, False, True]
    assert [bool(f.regions) for f in found.values()] == [False, True, True]
    plain = red_inspector(0.5)
    assert [plain.inspect(image).decision for image in images.values()] == [
        *("pass", "pass", "reject")
    ]


def test_a_pixel_threshold_marks_the_regions(red_inspector: Callable[..., Inspector]) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:30, 20:30, 0] = 204
    image[12:20, 22:28, 0] = 250
    inspector = red_inspector(0.5)
    for level, box in ((0.9, (22, 12, 6, 8)), (0.7, (20, 10, 10, 20)), (1.1, (20, 10, 10, 20))):
        inspector.card = with_calibration(
            inspector.card, pixel_threshold=level, pixel_false_positive_rate=0.001
        )
        found = inspector.inspect(image)
        assert [region.box for region in found.regions] == [box]
        assert found.is_anomalous is True
    assert inspector.inspect(image // 4).regions == ()


@pytest.mark.parametrize("shift", [-1e-6, 1e-6])
def test_the_last_digits_of_a_runtime_part_no_decision_from_its_regions(
    red_inspector: Callable[..., Inspector], shift: float
) -> None:
    image = np.full((64, 64, 3), 51, np.uint8)
    exact = score_of(image[..., 0].astype(np.float32) / 255)
    for threshold in (exact, exact + shift, exact + shift / 2):
        found = red_inspector(threshold, score_shift=shift).inspect(image)
        assert found.is_anomalous == bool(found.regions)


def test_without_a_threshold_nothing_is_decided(red_inspector: Callable[..., Inspector]) -> None:
    inspector = red_inspector(None)
    bright = np.full((64, 64, 3), 200, np.uint8)
    found = inspector.inspect(bright)
    assert inspector.threshold is found.threshold is found.is_anomalous is found.decision is None
    assert len(found.regions) == 1
    assert inspector.inspect(bright // 2).regions == ()


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (None, "NoneType"),
        ("part.png", "str"),
        ([[[0, 0, 0]]], "list"),
        (np.zeros((64, 64, 3)), "float64"),
        (np.zeros((64, 64, 3), np.uint16), "uint16"),
        (np.zeros((64, 64, 3), bool), "bool"),
        (np.zeros((64, 64), np.uint8), r"\(64, 64\)"),
        (np.zeros((64, 64, 1), np.uint8), r"\(64, 64, 1\)"),
        (np.zeros((64, 64, 4), np.uint8), r"\(64, 64, 4\)"),
        (np.zeros((3, 64, 64), np.uint8), r"\(3, 64, 64\)"),
        (np.zeros((0, 64, 3), np.uint8), r"\(0, 64, 3\)"),
        (np.zeros((64, 0, 3), np.uint8), r"\(64, 0, 3\)"),
    ],
)
def test_what_is_no_rgb_image_is_refused(
    red_inspector: Callable[..., Inspector], image: Any, found: str
) -> None:
    with pytest.raises(InputError, match=f"{r'(height, width, 3)'[1:-1]}.*RGB.*Found {found}"):
        red_inspector().inspect(image)


def test_images_turned_from_bgr_are_inspected_alike(tiny_model: Path) -> None:
    inspector = load(tiny_model, device="cpu")
    for size in ((64, 64), (100, 80)):
        image = picture(*size)
        turned = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
        fixed = image.copy()
        fixed.flags.writeable = False
        expected = inspector.inspect(image).anomaly_map
        assert (inspector.inspect(turned).anomaly_map == expected).all()
        assert (inspector.inspect(fixed).anomaly_map == expected).all()
        part = np.pad(image, ((5, 5), (5, 5), (0, 0)))[5:-5, 5:-5]
        assert (inspector.inspect(part).anomaly_map == expected).all()


def test_inspecting_leaves_the_image_alone_and_repeats(tiny_model: Path) -> None:
    inspector, image = load(tiny_model, device="cpu"), picture(64, 64)
    before = image.copy()
    first, second = inspector.inspect(image), load(tiny_model, device="cpu").inspect(image)
    assert (image == before).all()
    assert first.anomaly_score == second.anomaly_score
    assert (first.anomaly_map == second.anomaly_map).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_never_passes_for_good(
    red_inspector: Callable[..., Inspector], value: float
) -> None:
    class Broken:
        def run(self, images: np.ndarray) -> RuntimeOutput:
            maps = np.full(images.shape[:3], value, np.float32)
            return RuntimeOutput(maps, np.full(len(images), value, np.float32), images)

    with pytest.raises(InputError, match=r"not finite.*weights"):
        Inspector(red_inspector().card, Broken()).inspect(picture(64, 64))


def test_the_interpolation_is_the_models(
    write_tiny_model: Callable[..., ModelCard], tmp_path: Path
) -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::4] = 240
    prepared = {}
    for interpolation in ("bilinear", "area"):
        path = tmp_path / f"{interpolation}.safetensors"
        write_tiny_model(path, interpolation=interpolation, image_size=(32, 32))
        prepared[interpolation] = load(path, device="cpu").prepare(stripes)
    assert (prepared["area"] == 60).all()
    assert not (prepared["bilinear"] == 60).any()


def test_a_run_folder_stands_for_its_model(tiny_model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.1"
    run.mkdir()
    shutil.copy(tiny_model, run / "model.safetensors")
    assert model_path(str(run)) == run / "model.safetensors"
    assert model_path(tiny_model) == tiny_model
    assert load(run, device="cpu").card == read_card(tiny_model)
    (run / "model.safetensors").rename(run / "MODEL.SAFETENSORS")
    assert load(run / "MODEL.SAFETENSORS", device="cpu").card == read_card(tiny_model)


@pytest.mark.parametrize("name", ["m.txt", "m.pckl", "m", "m.safetensors.bak"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ModelFileError, match=r"no runtime is known.*draem train") as raised:
        load(tmp_path / name)
    assert raised.value.path == tmp_path / name


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("missing.safetensors", "missing.onnx", "missing"):
        with pytest.raises(ModelFileError, match=f"{name}: there is no such model"):
            load(tmp_path / name)
    with pytest.raises(ModelFileError, match="a folder without a model"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.onxx", "missing.mnn"])
def test_a_mistyped_name_asks_for_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for library in ("torch", "safetensors", "MNN"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelFileError, match="there is no such model"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((1, 64, 96, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
    ],
)
def test_what_is_no_batch_of_the_networks_size_is_refused(
    red_inspector: Callable[..., Inspector], batch: NDArray[np.uint8]
) -> None:
    with pytest.raises(InputError, match=r"uint8, \(batch, 64, 64, 3\).*Found"):
        red_inspector().run(batch)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu0"])
def test_an_unknown_device_is_refused_with_those_there_are(tiny_model: Path, device: str) -> None:
    with pytest.raises(InputError, match=f"no device `{device}`.*one of auto, cpu"):
        load(tiny_model, device=device)


def test_a_missing_torch_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "draem.inspection.torch_runtime", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'draem\[train\]'"):
        load(tiny_model)


def some(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(8)
    return [rng.integers(0, 256, (40 + 8 * row, 70, 3), np.uint8) for row in range(count)]


def same_inspection(first: Inspection, second: Inspection) -> bool:
    return first.anomaly_score == second.anomaly_score and np.array_equal(
        first.anomaly_map, second.anomaly_map
    )


def test_a_batch_and_an_iterator_give_what_single_images_give(
    red_inspector: Callable[..., Inspector],
) -> None:
    inspector, images = red_inspector(), some(4)
    expected = [inspector.inspect(image) for image in images]
    for found in (inspector.inspect(images), inspector.inspect(tuple(images))):
        assert isinstance(found, list)
        assert all(map(same_inspection, found, expected))
    stream = inspector.inspect(iter(images))
    assert iter(stream) is stream
    assert all(map(same_inspection, stream, expected))
    stack = np.stack([images[0], images[0][::-1]])
    found = inspector.inspect(stack)
    assert len(found) == 2
    assert same_inspection(found[0], expected[0])
    assert inspector.inspect([]) == []


def test_an_iterator_is_read_only_as_far_as_needed(
    red_inspector: Callable[..., Inspector],
) -> None:
    read: list[int] = []

    def camera() -> Iterator[NDArray[np.uint8]]:
        for number, image in enumerate(some(8)):
            read.append(number)
            yield image

    stream = red_inspector().inspect(camera())
    assert read == []
    next(stream)
    stream.close()
    assert len(read) <= 4


@pytest.mark.parametrize("given", [None, "image.png", 3, [None], [np.zeros((4, 4), np.uint8)]])
def test_what_is_no_image_is_refused_in_any_form(
    red_inspector: Callable[..., Inspector], given: object
) -> None:
    with pytest.raises(InputError, match="the image has the wrong"):
        red_inspector().inspect(given)  # type: ignore[call-overload]


@pytest.mark.parametrize("pixel_threshold", [None, 0.35, 0.9])
def test_an_image_for_review_has_regions_at_the_review_threshold(
    red_inspector: Callable[..., Inspector], pixel_threshold: float | None
) -> None:
    inspector = red_inspector(0.5)
    assert inspector.card.calibration
    two = inspector.card.calibration.model_copy(
        update={"review_threshold": 0.25, "pixel_threshold": pixel_threshold}
    )
    inspector.card = inspector.card.model_copy(update={"calibration": two})
    image = np.zeros((64, 64, 3), np.uint8)
    found = {}
    for level in (50, 100, 200):
        image[20:40, 20:40, 0] = level
        found[level] = inspector.inspect(image)
    assert [each.decision for each in found.values()] == ["pass", "review", "reject"]
    assert [each.is_anomalous for each in found.values()] == [False, False, True]
    assert [len(each.regions) for each in found.values()] == [0, 1, 1]
    (region,) = found[100].regions
    assert region.box == (20, 20, 20, 20)
    assert region.peak == pytest.approx(100 / 255)
