from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.datasets.decoding import decode_to_memory, resized
from draem.datasets.image_source import fingerprint
from draem.datasets.split import train_held_out_split
from draem.errors import DatasetError, InputError, ModelFileError, OutputError, RecipeError
from draem.imaging.decode import decode_image
from draem.inspection.calibrate_model import calibrate_model
from draem.inspection.calibration import calibrate, pixel_level
from draem.inspection.loading import load
from draem.model_card import ModelCard, TrainingSet
from draem.model_file import read_card, read_model, write_card
from draem.training.recipe import make_recipe

Save = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return shutil.copy(tiny_model, tmp_path / "model.safetensors")


@pytest.fixture
def good(save_image: Save, tmp_path: Path) -> Path:
    """A folder of 12 images of several sizes, none of them the network's."""
    rng = np.random.default_rng(3)
    for number in range(12):
        size = (int(rng.integers(20, 120)), int(rng.integers(20, 120)), 3)
        pixels = rng.integers(0, 256, size) * rng.random()
        save_image(tmp_path / "good" / f"{number:02d}.png", pixels.astype(np.uint8))
    return tmp_path / "good"


def test_the_thresholds_are_those_of_what_the_inspector_finds(model: Path, good: Path) -> None:
    inspector, card = load(model), read_card(model)
    found = [inspector.inspect(decode_image(path)) for path in sorted(good.iterdir())]
    assert found[0].anomaly_map.shape != found[1].anomaly_map.shape
    expected = calibrate(
        [one.anomaly_score for one in found],
        0.1,
        review_rate=0.4,
        pixel_levels=[pixel_level(one.anomaly_map, 0.02) for one in found],
        pixel_false_positive_rate=0.02,
    )
    result = calibrate_model(
        model, good, false_reject_rate=0.1, review_rate=0.4, pixel_false_positive_rate=0.02
    )
    assert result.calibration == expected
    assert (result.model, result.failures) == (model, ())
    assert expected.review_threshold is not None
    assert expected.review_threshold < expected.threshold != card.calibration.threshold
    assert read_card(model) == card.model_copy(update={"calibration": expected})
    read_model(model)
    again = load(model).inspect(decode_image(good / "00.png"))
    assert again.threshold == expected.threshold
    assert again.anomaly_score == found[0].anomaly_score


def test_an_earlier_calibration_is_replaced_as_a_whole(model: Path, good: Path) -> None:
    calibrate_model(
        model, good, false_reject_rate=0.1, review_rate=0.4, pixel_false_positive_rate=0.02
    )
    found = calibrate_model(model, good, false_reject_rate=0.2).calibration
    assert found.review_threshold is found.pixel_threshold is None
    assert read_card(model).calibration == found


def test_a_model_without_a_threshold_gets_one(
    write_tiny_model: Callable[..., ModelCard], good: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_tiny_model(run / "model.safetensors", calibration=None)
    result = calibrate_model(str(run), str(good), false_reject_rate=0.1)
    assert result.model == run / "model.safetensors"
    assert load(run).threshold == result.calibration.threshold


def test_files_and_folders_count_each_image_once(model: Path, good: Path) -> None:
    whole = calibrate_model(model, good, false_reject_rate=0.1).calibration
    files = [*sorted(good.iterdir(), reverse=True), good, good / "03.png"]
    assert calibrate_model(model, files, false_reject_rate=0.1).calibration == whole
    assert whole.images == 12


def test_an_image_that_cannot_be_read_costs_only_itself(
    model: Path, good: Path, tmp_path: Path
) -> None:
    (good / "04.png").write_bytes((good / "04.png").read_bytes()[:80])
    (good / "99.png").write_text("no image")
    calls: list[tuple[int, int]] = []
    result = calibrate_model(
        model, good, false_reject_rate=0.1, progress=lambda *call: calls.append(call)
    )
    assert [path.name for path, _ in result.failures] == ["04.png", "99.png"]
    assert result.failures[1][1] == "is not an image that draem can read"
    assert result.calibration.images == 11
    assert calls == [(done, 13) for done in range(1, 14)]
    for path, _ in result.failures:
        path.unlink()
    assert calibrate_model(model, good, false_reject_rate=0.1).calibration == result.calibration


def test_copies_count_once(model: Path, good: Path, tmp_path: Path) -> None:
    alone = calibrate_model(model, good, false_reject_rate=0.1, pixel_false_positive_rate=0.01)
    assert alone.copies == ()
    other = good / "03 again.bmp"
    Image.fromarray(decode_image(good / "03.png")).save(other)
    shutil.copy(good / "05.png", tmp_path / "more.png")
    result = calibrate_model(
        model, [good, tmp_path / "more.png"], false_reject_rate=0.1, pixel_false_positive_rate=0.01
    )
    # Of the names in order, the one with a space is first.
    assert result.copies == ((good / "03.png", other), (tmp_path / "more.png", good / "05.png"))
    assert result.calibration == alone.calibration
    assert result.calibration.images == 12


def test_copies_support_no_rate(model: Path, good: Path) -> None:
    for number in range(8):
        shutil.copy(good / "00.png", good / f"copy {number}.png")
    before = model.read_bytes()
    with pytest.raises(InputError) as raised:
        calibrate_model(model, good, false_reject_rate=0.05)
    assert "12 good images cannot support a false-reject rate of 5%" in str(raised.value)
    assert "8 files are copies of another and do not count" in str(raised.value)
    assert f"copy 0.png (of {good / '00.png'})" in str(raised.value)
    assert "copy 3.png" not in str(raised.value)
    assert "and 5 more" in str(raised.value)
    assert model.read_bytes() == before


@pytest.mark.parametrize("group_by", ["folder", r"^(\d)"])
def test_groups_count_once_by_their_highest_score(
    model: Path, good: Path, save_image: Save, tmp_path: Path, group_by: str
) -> None:
    """12 images of 6 parts."""
    inspector = load(model)
    scores, parts = [], [number // 2 for number in range(12)]
    for part, path in zip(parts, sorted(good.iterdir()), strict=True):
        scores.append(inspector.inspect(decode_image(path)).anomaly_score)
        folder = tmp_path / "parts" / str(part)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{part}-{path.name}")
    result = calibrate_model(model, tmp_path / "parts", false_reject_rate=0.2, group_by=group_by)
    by = "folder" if group_by == "folder" else "expression"
    assert result.grouping == f"12 images in 6 groups (by {by})"
    assert result.calibration == calibrate(scores, 0.2, groups=parts)
    assert (result.calibration.images, result.calibration.groups) == (12, 6)
    with pytest.raises(InputError, match=r"12 good images in 6 groups.*at least 9 groups"):
        calibrate_model(model, tmp_path / "parts", false_reject_rate=0.1, group_by=group_by)
    alone = calibrate_model(model, tmp_path / "parts", false_reject_rate=0.1, group_by="image")
    assert (alone.grouping, alone.calibration.parts) == ("", 12)


def test_a_broken_grouping_is_refused_before_the_work(good: Path) -> None:
    with pytest.raises(RecipeError, match="group_by"):
        calibrate_model("missing.safetensors", good, false_reject_rate=0.1, group_by="(")


def test_a_rate_that_so_few_images_cannot_support_is_refused(
    model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.read_bytes()
    calls: list[int] = []
    with pytest.raises(InputError) as raised:
        calibrate_model(model, good, false_reject_rate=0.05, progress=lambda *c: calls.append(1))
    assert str(raised.value) == (
        "12 good images cannot support a false-reject rate of 5%. Expected at least 19 good images "
        "for that rate. Found 12; the smallest rate that 12 images support is 7.7%. Take images of "
        "more good parts, or ask for a higher rate."
    )
    assert calls == [], "the images were inspected in vain"
    assert model.read_bytes() == before
    # Enough files, but one of them is no image.
    (good / "00.png").write_bytes(b"")
    with pytest.raises(InputError, match="11 good images cannot support"):
        calibrate_model(model, good, false_reject_rate=1 / 13)
    assert model.read_bytes() == before


def test_a_model_that_cannot_be_written_is_refused_before_the_work(
    model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: int) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", refuse)
    calls: list[int] = []
    with pytest.raises(OutputError, match=rf"{model.name}: cannot be written \(Read-only"):
        calibrate_model(model, good, false_reject_rate=0.5, progress=lambda *_: calls.append(1))
    assert calls == []


def test_images_none_of_which_can_be_read_are_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.png").write_text("no image")
    with pytest.raises(DatasetError, match=r"^of 1 good image none.*1\.png is not an image"):
        calibrate_model(model, tmp_path / "bad", false_reject_rate=0.5)


@pytest.mark.parametrize(
    ("rates", "named"),
    [
        ({"false_reject_rate": 0}, "false-reject rate"),
        ({"false_reject_rate": 1.0}, "false-reject rate"),
        ({"false_reject_rate": 0.2, "review_rate": 0.2}, "review rate"),
        ({"false_reject_rate": 0.2, "pixel_false_positive_rate": 1}, "pixels'"),
    ],
)
def test_rates_that_mean_nothing_are_refused_first(rates: dict, named: str) -> None:
    with pytest.raises(InputError, match=f"{named}.*out of range"):
        calibrate_model("missing.safetensors", "nowhere", **rates)


def test_what_is_not_there_is_named(model: Path, good: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such model"):
        calibrate_model(tmp_path / "missing.safetensors", good, false_reject_rate=0.1)
    with pytest.raises(DatasetError, match="nowhere: does not exist"):
        calibrate_model(model, tmp_path / "nowhere", false_reject_rate=0.1)


def test_a_category_is_refused(model: Path, tiny_category: Path) -> None:
    with pytest.raises(DatasetError, match=r"is a category.*not trained on.*test/good"):
        calibrate_model(model, tiny_category, false_reject_rate=0.5)
    # Who names the folder has decided.
    result = calibrate_model(model, tiny_category / "test/good", false_reject_rate=0.5)
    assert result.calibration.images == 3


def test_a_model_that_is_replaced_meanwhile_keeps_its_calibration(
    model: Path, good: Path, write_tiny_model: Callable[..., ModelCard]
) -> None:
    other: list[ModelCard] = []

    def replace(done: int, total: int) -> None:
        if done == total:
            other.append(write_tiny_model(model, seed=1))

    with pytest.raises(ModelFileError, match="another model"):
        calibrate_model(model, good, false_reject_rate=0.1, progress=replace)
    assert read_card(model) == other[0]


def test_a_file_that_cannot_be_written_is_left_alone(
    model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = model.read_bytes()
    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(OutputError, match=r"model\.safetensors: cannot be written"):
        calibrate_model(model, good, false_reject_rate=0.1)
    assert model.read_bytes() == before


@pytest.fixture
def trained(
    write_tiny_model: Callable[..., ModelCard], good: Path, tmp_path: Path
) -> Callable[..., Path]:
    """A model that says it was trained on the good images, with some held out."""

    def write(held_out_share: float, groups: Sequence[int] = range(12), **options: object) -> Path:
        asked = {"training": {"held_out_share": held_out_share, "seed": 7, **options}}
        held_out, kept = train_held_out_split(np.array(groups), held_out_share, seed=7)
        images = decode_to_memory(sorted(good.iterdir()), resized(12, (64, 64), "area"))[:]
        path = tmp_path / "trained.safetensors"
        write_tiny_model(
            path,
            interpolation="area",
            recipe=make_recipe(overrides=asked).resolve(),
            training_set=TrainingSet(
                images=len(kept), fingerprint=fingerprint(images[kept]), held_out=len(held_out)
            ),
        )
        return path

    return write


def test_the_training_images_are_recognised_in_their_groups(
    trained: Callable[..., Path], good: Path
) -> None:
    groups = [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]
    for number, group in enumerate(groups):
        (good / f"{number:02d}.png").rename(good / f"{number:02d} of part {group}.png")
    path = trained(0.3, groups, group_by=r"part (\d)")
    with pytest.raises(DatasetError, match="the model was trained with"):
        calibrate_model(path, good, false_reject_rate=0.1)


def test_training_images_of_a_model_from_before_groups_are_refused(
    trained: Callable[..., Path], good: Path
) -> None:
    path = trained(0.3)
    card = read_card(path)
    assert card.training_set is not None
    write_card(path, card.replace(training_set=card.training_set.replace(held_out=None)))
    with pytest.raises(DatasetError, match="the model was trained with"):
        calibrate_model(path, good, false_reject_rate=0.1)


@pytest.mark.parametrize("held_out_share", [0.0, 0.1, 0.5])
def test_the_training_images_are_refused(
    trained: Callable[..., Path], good: Path, held_out_share: float
) -> None:
    path = trained(held_out_share)
    before = path.read_bytes()
    for named in (good, sorted(good.iterdir(), reverse=True)):
        with pytest.raises(DatasetError, match="the model was trained with") as raised:
            calibrate_model(path, named, false_reject_rate=0.1)
        assert raised.value.path == good
    assert path.read_bytes() == before


def test_other_images_are_not_taken_for_the_training_images(
    trained: Callable[..., Path], good: Path, save_image: Save
) -> None:
    path = trained(0.1)
    pixels = decode_image(good / "05.png").copy()
    pixels[::2] = 255 - pixels[::2]
    save_image(good / "05.png", pixels)
    save_image(good / "04.png", 255 - pixels)
    assert calibrate_model(path, good, false_reject_rate=0.1).calibration.images == 12
    (good / "06.png").write_bytes(b"")
    assert calibrate_model(path, good, false_reject_rate=0.1).calibration.images == 11
