from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from draem.errors import DatasetError, InputError, ModelFileError
from draem.evaluation.evaluator import evaluate
from draem.evaluation.result import Evaluation
from draem.inspection.inspector import Inspector
from draem.model_card import ModelCard, TrainingSet

Save = Callable[[Path, np.ndarray], Path]
SIDE = 64


def even(red: int) -> np.ndarray:
    """An image whose score is red / 255, as the mean filter leaves a constant map alone."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[..., 0] = red
    return pixels


@pytest.fixture
def category(tmp_path: Path, save_image: Save) -> Callable[..., Path]:
    """Makes a test set from red levels: a list for each folder under `test`."""

    def make(mask: np.ndarray | None = None, **levels: list[int]) -> Path:
        root = tmp_path / "category"
        if mask is None:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[10:20, 10:20] = 255
        for folder, reds in levels.items():
            for number, red in enumerate(reds):
                save_image(root / "test" / folder / f"{number:03d}.png", even(red))
                if folder != "good":
                    save_image(root / "ground_truth" / folder / f"{number:03d}_mask.png", mask)
        return root

    return make


def scores_of(examples: tuple) -> list[int]:
    return [round(255 * example.scored.anomaly_score) for example in examples]


def test_a_perfect_detector_gets_perfect_figures(
    red_inspector: Callable[..., Inspector], tiny_category: Path
) -> None:
    found = evaluate(red_inspector(0.5), tiny_category)
    assert found.metrics == pytest.approx(dict.fromkeys(found.metrics, 1.0))
    assert set(found.metrics) == {
        "image_auroc",
        "image_ap",
        "image_f1_max",
        "pixel_auroc",
        "pixel_ap",
        "pixel_f1_max",
        "aupro_0.30",
        "aupro_0.05",
    }
    assert list(found.metrics_by_defect) == ["scratch", "stain"]
    for metrics in found.metrics_by_defect.values():
        assert metrics == pytest.approx(found.metrics)
    assert found.counts == {"normal": 3, "anomalous": 3, "scratch": 2, "stain": 1}
    assert (found.false_reject_rate, found.miss_rate) == (0, 0)
    assert set(found.curves) == {"image_roc", "image_pr", "pixel_roc", "pixel_pr", "pro"}
    assert found.data == tiny_category
    assert found.mask_rule == "half"


def test_the_images_come_in_the_order_of_the_test_set(
    red_inspector: Callable[..., Inspector], tiny_category: Path
) -> None:
    found = evaluate(red_inspector(), str(tiny_category))
    assert [str(image.path.relative_to(tiny_category)) for image in found.images] == [
        "test/good/000.png",
        "test/good/001.png",
        "test/good/002.png",
        "test/scratch/000.png",
        "test/scratch/001.png",
        "test/stain/000.png",
    ]
    assert [image.label for image in found.images] == [0, 0, 0, 1, 1, 1]
    assert [image.defect for image in found.images] == [
        *["normal"] * 3,
        *["scratch"] * 2,
        "stain",
    ]


def test_image_figures_by_hand(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    data = category(good=[10, 40], scratch=[30], stain=[50])
    found = evaluate(red_inspector(35 / 255), data)
    # Of the four pairs of an anomalous and a normal image only (30, 40) is the wrong way round.
    assert found.metrics["image_auroc"] == pytest.approx(0.75)
    # Ranked 50, 40, 30, 10: precision 1 at the first hit and 2/3 at the second.
    assert found.metrics["image_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert found.metrics_by_defect["scratch"]["image_auroc"] == pytest.approx(0.5)
    assert found.metrics_by_defect["stain"]["image_auroc"] == pytest.approx(1)
    assert found.threshold == 35 / 255
    assert (found.false_reject_rate, found.miss_rate) == (0.5, 0.5)
    assert scores_of(found.misses) == [30, 50]
    assert scores_of(found.hits) == [50, 30]
    assert scores_of(found.false_alarms) == [40, 10]


def test_pixel_figures_by_hand(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    # Every pixel of the good image is at 20; the anomalous images are even too, at 10 and 30.
    found = evaluate(red_inspector(), category(good=[20], scratch=[10], stain=[30]))
    pixels, defect = SIDE**2, 100
    # Normal pixels: 10, 20 and 30, of each good share; anomalous pixels: 10 and 30.
    normal = {10: pixels - defect, 20: pixels, 30: pixels - defect}
    total = sum(normal.values())
    low = normal[10] / 2 / total
    high = (normal[10] + normal[20] + normal[30] / 2) / total
    assert found.metrics["pixel_auroc"] == pytest.approx((low + high) / 2)
    stain = (normal[20] + normal[30] / 2) / (normal[20] + normal[30])
    assert found.metrics_by_defect["stain"]["pixel_auroc"] == pytest.approx(stain)
    assert found.metrics_by_defect["scratch"]["pixel_auroc"] == pytest.approx(
        normal[10] / 2 / (normal[10] + normal[20])
    )


def test_a_score_at_the_threshold_is_rejected(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    data = category(good=[51], scratch=[51])
    score = evaluate(red_inspector(), data).images[0].anomaly_score
    at = evaluate(red_inspector(score), data)
    above = evaluate(red_inspector(float(np.nextafter(score, 1))), data)
    assert (at.false_reject_rate, at.miss_rate) == (1, 0)
    assert (above.false_reject_rate, above.miss_rate) == (0, 1)


def test_the_shares_in_review_by_hand(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    data = category(good=[10, 20, 30, 40], scratch=[5, 25], stain=[50, 60])
    inspector = red_inspector(35 / 255)
    plain = evaluate(inspector, data)
    assert plain.review_threshold is None
    assert plain.normal_review_rate is plain.anomalous_review_rate is None
    calibration = inspector.card.calibration.model_copy(
        update={
            "groups": 12,
            "review_threshold": 19.5 / 255,
            "review_rate": 0.4,
            "pixel_threshold": 0.5,
            "pixel_false_positive_rate": 0.0,
        }
    )
    inspector.card = inspector.card.model_copy(update={"calibration": calibration})
    found = evaluate(inspector, data)
    assert found.review_threshold == 19.5 / 255
    assert (found.normal_review_rate, found.anomalous_review_rate) == (0.5, 0.25)
    assert (found.false_reject_rate, found.miss_rate) == (0.25, 0.25)
    assert found.model == {
        **plain.model,
        "calibration_groups": 12,
        "promised_review_rate": 0.4,
        "pixel_threshold": 0.5,
        "pixel_false_positive_rate": 0.0,
    }


def test_the_mask_rules_part_on_grey_pixels(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path], save_image: Save
) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:20, 10:16], mask[10:20, 16:20] = 255, 128
    mask[10:20, 20] = 127  # a soft edge
    data = category(mask, good=[0], scratch=[0])
    # The detector marks what is white in the mask, and nothing else.
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[mask == 255, 0] = 255
    save_image(data / "test/scratch/000.png", pixels)
    upstream = evaluate(red_inspector(), data, mask_rule="upstream")
    half = evaluate(red_inspector(), data, mask_rule="half")
    assert (upstream.mask_rule, half.mask_rule) == ("upstream", "half")
    assert upstream.metrics["pixel_auroc"] == upstream.metrics["pixel_ap"] == pytest.approx(1)
    # Under `half` 100 pixels are anomalous; 60 rank above all normal ones and 40 tie with them.
    assert half.metrics["pixel_auroc"] == pytest.approx(0.6 + 0.4 / 2)
    assert half.metrics["image_auroc"] == upstream.metrics["image_auroc"]
    for found, marked in ((upstream, 60), (half, 100)):
        (example,) = found.misses
        assert example.mask is not None
        assert example.mask.sum() == marked
    assert half.false_alarms[0].mask is None


def test_masks_are_resized_bilinearly_and_then_cut(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path], save_image: Save
) -> None:
    data = category(good=[0], scratch=[0])
    mask = np.zeros((2 * SIDE, 2 * SIDE), np.uint8)
    mask[21:40, 20:40] = 255
    save_image(data / "ground_truth/scratch/000_mask.png", mask)
    save_image(data / "test/scratch/000.png", np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8))
    # Halved, each pixel is the mean of two by two: the top row is half grey, 127.5.
    areas = {
        rule: evaluate(red_inspector(), data, mask_rule=rule).misses[0].mask.sum()
        for rule in ("half", "upstream")
    }
    assert areas == {"half": 100, "upstream": 90}


def test_an_unknown_mask_rule_is_refused(
    red_inspector: Callable[..., Inspector], tiny_category: Path
) -> None:
    with pytest.raises(InputError, match=r"half or upstream.*Found most"):
        evaluate(red_inspector(), tiny_category, mask_rule="most")  # type: ignore[arg-type]


def test_every_image_that_cannot_be_read_is_listed(
    red_inspector: Callable[..., Inspector], tiny_category: Path
) -> None:
    cut = [
        tiny_category / "test/scratch/001.png",
        tiny_category / "ground_truth/stain/000_mask.png",
    ]
    for path in cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    broken = tiny_category / "test/good/001.png"
    broken.write_text("no image")
    calls: list[tuple[int, int]] = []
    with pytest.raises(DatasetError, match="3 images of the test set") as raised:
        evaluate(red_inspector(), tiny_category, progress=lambda *call: calls.append(call))
    lines = str(raised.value).splitlines()
    assert lines[0].startswith(str(tiny_category))
    assert [line.split(": ")[0].strip() for line in lines[1:-1]] == [
        str(path) for path in (broken, *cut)
    ]
    assert lines[-1].startswith("Repair or remove them")
    assert calls == [(done, 6) for done in range(1, 7)]


def test_progress_is_told(red_inspector: Callable[..., Inspector], tiny_category: Path) -> None:
    calls: list[tuple[int, int]] = []
    evaluate(red_inspector(), tiny_category, progress=lambda *call: calls.append(call))
    assert calls == [(done, 6) for done in range(1, 7)]


def test_the_eight_worst_and_best_are_kept_in_order(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    rng = np.random.default_rng(4)
    good = rng.permutation(np.arange(20, 32)).tolist()
    bad = rng.permutation(np.arange(100, 112)).tolist()
    found = evaluate(red_inspector(), category(good=good, scratch=bad))
    assert scores_of(found.false_alarms) == list(range(31, 23, -1))
    assert scores_of(found.misses) == list(range(100, 108))
    assert scores_of(found.hits) == list(range(111, 103, -1))
    for example in found.hits:
        red = round(255 * example.scored.anomaly_score)
        assert (example.image == even(red)).all()
        assert (example.reconstruction == 255 - even(red)).all()
        assert example.anomaly_map == pytest.approx(red / 255)


def test_among_equal_scores_the_first_images_are_kept(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    found = evaluate(red_inspector(), category(good=[7] * 10, scratch=[9] * 10))
    names = [f"{number:03d}" for number in range(8)]
    for examples in (found.false_alarms, found.misses, found.hits):
        assert [example.scored.path.stem for example in examples] == names


def test_the_same_images_give_the_same_evaluation(tiny_model: Path, tiny_category: Path) -> None:
    def numbers(found: Evaluation) -> tuple:
        return found.metrics, found.metrics_by_defect, found.images, found.counts

    first = evaluate(tiny_model, tiny_category, device="cpu")
    second = evaluate(str(tiny_model), tiny_category, device="cpu")
    assert numbers(first) == numbers(second)


def test_only_good_images_leave_figures_undefined(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    found = evaluate(red_inspector(0.1), category(good=[10, 40]))
    assert all(np.isnan(value) for value in found.metrics.values())
    assert found.counts == {"normal": 2, "anomalous": 0}
    assert (found.false_reject_rate, found.miss_rate) == (0.5, None)
    assert found.curves == found.metrics_by_defect == {}
    assert found.misses == found.hits == ()


def test_only_anomalous_images_leave_figures_undefined(
    red_inspector: Callable[..., Inspector], category: Callable[..., Path]
) -> None:
    found = evaluate(red_inspector(0.1), category(scratch=[10, 40]))
    assert np.isnan(found.metrics["image_auroc"])
    # Even so, the pixels around the defects are normal ones.
    assert found.metrics["pixel_auroc"] == pytest.approx(0.5)
    assert (found.false_reject_rate, found.miss_rate) == (None, 0.5)


def test_without_a_threshold_nothing_is_said_of_rates(
    red_inspector: Callable[..., Inspector], tiny_category: Path
) -> None:
    found = evaluate(red_inspector(None), tiny_category)
    assert found.threshold is found.false_reject_rate is found.miss_rate is None
    assert "promised_false_reject_rate" not in found.model


def test_the_facts_are_the_cards(
    write_tiny_model: Callable[..., ModelCard], tiny_category: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    trained_on = TrainingSet(images=4, fingerprint="cd" * 8)
    card = write_tiny_model(path, training_set=trained_on)
    assert evaluate(path, tiny_category, device="cpu").model == {
        "fingerprint": card.fingerprint,
        "preset": "compact",
        "image_size": (64, 64),
        "interpolation": "bilinear",
        "widths": "4/4",
        "calibration_images": 19,
        "promised_false_reject_rate": 0.05,
        "training_images": 4,
        "training_fingerprint": "cd" * 8,
    }


def test_the_model_gets_so_many_threads(
    tiny_model: Path, tiny_category: Path, one_thread: None
) -> None:
    evaluate(tiny_model, tiny_category, device="cpu", threads=2)
    assert torch.get_num_threads() == 2


def test_a_missing_set_or_model_is_named(
    red_inspector: Callable[..., Inspector], tiny_category: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="missing"):
        evaluate(red_inspector(), tmp_path / "missing")
    with pytest.raises(ModelFileError, match="there is no such model"):
        evaluate(tmp_path / "missing.safetensors", tiny_category)
    shutil.rmtree(tiny_category / "ground_truth/stain")
    with pytest.raises(DatasetError, match="stain"):
        evaluate(red_inspector(), tiny_category)


def test_a_tiled_model_is_measured_at_the_images_own_size(
    red_inspector: Callable[..., Inspector], tmp_path: Path, save_image: Save
) -> None:
    # Two pixels across, and faint at the network's 64x64.
    for number, size in enumerate([(200, 300), (130, 70)]):
        pixels = np.zeros((*size, 3), np.uint8)
        save_image(tmp_path / f"test/good/{number}.png", pixels)
        mask = np.zeros(size, np.uint8)
        mask[50:52, 20:60] = 255
        pixels[..., 0] = mask
        save_image(tmp_path / f"test/scratch/{number}.png", pixels)
        save_image(tmp_path / f"ground_truth/scratch/{number}_mask.png", mask)
    inspector = red_inspector(0.3).with_tiles(SIDE, 16)

    found = evaluate(inspector, tmp_path)

    assert found.metrics == pytest.approx(dict.fromkeys(found.metrics, 1.0))
    # The 5x5 filter at 64 pixels sees two of its five rows.
    assert [image.anomaly_score for image in found.images] == pytest.approx([0, 0, 0.4, 0.4])
    assert (found.false_reject_rate, found.miss_rate) == (0, 0)
    assert found.model["tile_overlap"] == 16
    shapes = {example.scored.path.stem: example for example in found.misses}
    assert shapes["0"].image.shape == shapes["0"].reconstruction.shape == (200, 300, 3)
    assert shapes["0"].anomaly_map.shape == shapes["0"].mask.shape == (200, 300)
    assert evaluate(red_inspector(0.3), tmp_path).miss_rate == 1


def test_examples_of_large_images_are_kept_small(
    red_inspector: Callable[..., Inspector], tmp_path: Path, save_image: Save
) -> None:
    pixels, mask = np.zeros((2000, 1000, 3), np.uint8), np.zeros((2000, 1000), np.uint8)
    pixels[1500:1503, 300:303, 0] = mask[1500:1503, 300:303] = 255
    save_image(tmp_path / "test/scratch/0.png", pixels)
    save_image(tmp_path / "ground_truth/scratch/0_mask.png", mask)

    found = evaluate(red_inspector(0.1).with_tiles(SIDE, 16), tmp_path)

    (example,) = found.misses
    height, width = example.anomaly_map.shape
    assert height * width == pytest.approx(2**20, rel=0.01)
    assert height / width == pytest.approx(2, abs=0.01)
    assert example.image.shape == example.reconstruction.shape == (height, width, 3)
    # However small, a defect keeps its height and its mark.
    assert example.anomaly_map.max() == 1
    row, column = np.argwhere(example.anomaly_map == 1)[0]
    assert (row / height, column / width) == pytest.approx((0.75, 0.3), abs=0.01)
    assert example.mask is not None
    np.testing.assert_array_equal(example.mask, example.anomaly_map == 1)
    # Figures are those of the image as it is.
    assert found.metrics["pixel_f1_max"] == 1
