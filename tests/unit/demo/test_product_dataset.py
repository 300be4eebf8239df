from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from draem.demo.camera import photograph
from draem.demo.defects import DEFECTS, VISIBLE, add_defect
from draem.demo.flange import (
    HOLES,
    MARKS,
    Part,
    Pose,
    hole_centre,
    machine,
    print_marks,
    render_part,
    to_pixels,
)
from draem.demo.product_dataset import SPLITS, render_product, render_split
from draem.errors import InputError, OutputError
from draem.imaging.decode import decode_image, decode_mask

Sizes = dict[str, int]
SMALL: Sizes = {"size": 64, "normal_train": 2, "normal_test": 1, "per_defect": 1}


def part_of(seed: int, size: int = 256) -> Part:
    return render_part(np.random.default_rng(seed), size)


def files_below(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_layout_is_that_of_mvtec(tmp_path: Path) -> None:
    root = render_product(tmp_path / "new" / "flange", **SMALL)

    assert root == tmp_path / "new" / "flange"
    expected = {"train/good/000.png", "train/good/001.png", "test/good/000.png"}
    for kind in DEFECTS:
        expected |= {f"test/{kind}/000.png", f"ground_truth/{kind}/000_mask.png"}
    assert set(files_below(root)) == expected


def test_files_hold_what_was_rendered(tmp_path: Path) -> None:
    root = render_product(tmp_path / "flange", seed=5, **SMALL)

    for split in SPLITS[1:]:
        (view,) = render_split(split, 1, seed=5, size=64)
        np.testing.assert_array_equal(decode_image(root / split / "000.png"), view.image)
        assert (view.mask is None) == (split == "test/good")
        if view.mask is not None:
            path = root / "ground_truth" / Path(split).name / "000_mask.png"
            np.testing.assert_array_equal(decode_mask(path), view.mask)


def test_same_seed_same_bytes_and_other_seed_others(tmp_path: Path) -> None:
    first = files_below(render_product(tmp_path / "a", seed=1, **SMALL))
    again = files_below(render_product(tmp_path / "b", seed=1, **SMALL))
    other = files_below(render_product(tmp_path / "c", seed=2, **SMALL))

    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_images_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = files_below(render_product(tmp_path / "few", **SMALL))
    more = files_below(
        render_product(tmp_path / "more", size=64, normal_train=3, normal_test=2, per_defect=2)
    )

    assert len(more) > len(few)
    assert few == {name: more[name] for name in few}


def test_no_two_images_are_alike(tmp_path: Path) -> None:
    contents = files_below(
        render_product(tmp_path / "p", size=64, normal_train=3, normal_test=3, per_defect=2)
    )

    assert len(set(contents.values())) == len(contents)


def test_progress_counts_every_image(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    render_product(tmp_path / "p", **SMALL, progress=lambda *call: calls.append(call))

    total = 3 + len(DEFECTS)
    assert calls == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", -1), ("size", 63), ("normal_train", -1), ("normal_test", -1), ("per_defect", -1)],
)
def test_bad_numbers_are_refused_before_anything_is_written(
    tmp_path: Path, name: str, value: int
) -> None:
    numbers: Sizes = {**SMALL, name: value}

    with pytest.raises(InputError, match=f"{name} is too small.*Found {value}"):
        render_product(tmp_path / "p", **numbers)
    assert not (tmp_path / "p").exists()


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")

    with pytest.raises(OutputError, match="already holds something"):
        render_product(tmp_path, **SMALL)
    assert files_below(tmp_path) == {"mine.txt": b"kept"}


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")

    with pytest.raises(OutputError, match="already holds something"):
        render_product(tmp_path / "mine", **SMALL)


@pytest.mark.parametrize("size", [64, 97, 256])
@pytest.mark.parametrize("kind", DEFECTS)
def test_mask_says_where_the_defect_changes_the_picture(kind: str, size: int) -> None:
    for seed in range(4):
        part = part_of(seed, size)
        clean = photograph(part)
        image, mask = add_defect(part, kind, np.random.default_rng([1, seed]))

        assert image.shape == (size, size, 3)
        assert image.dtype == mask.dtype == np.uint8
        assert mask.shape == (size, size)
        assert set(np.unique(mask)) == {0, 255}
        assert 0.0002 < (mask > 0).mean() < 0.05

        change = np.abs(image.astype(int) - clean).max(axis=2)
        # The same noise is added to both, so beyond the threshold only rounding is left.
        assert change[mask == 0].max() <= VISIBLE * 255 + 1
        assert change[mask > 0].mean() > 2 * VISIBLE * 255
        assert (change[mask > 0] > VISIBLE * 255 - 1).mean() > 0.5


@pytest.mark.parametrize("kind", DEFECTS)
def test_defects_of_one_kind_differ_in_size_and_contrast(kind: str) -> None:
    areas, contrasts = [], []
    for seed in range(8):
        part = part_of(seed, 128)
        image, mask = add_defect(part, kind, np.random.default_rng([2, seed]))
        change = np.abs(image.astype(int) - photograph(part)).max(axis=2)
        areas.append(np.count_nonzero(mask))
        contrasts.append(change[mask > 0].mean())

    assert max(areas) > 1.3 * min(areas)
    assert max(contrasts) > 1.15 * min(contrasts)


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_leaves_the_good_part_as_it_was(kind: str) -> None:
    part = part_of(3, 128)
    before = photograph(part)

    add_defect(part, kind, np.random.default_rng(0))

    np.testing.assert_array_equal(photograph(part), before)


def test_a_defect_too_faint_to_see_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def shy(part: Part, rng: np.random.Generator) -> Part:
        nonlocal tries
        tries += 1
        return part if tries < 3 else replace(part, paint=part.paint * np.float32(0.5))

    monkeypatch.setitem(DEFECTS, "shy", shy)
    _, mask = add_defect(part_of(0, 64), "shy", np.random.default_rng(0))

    assert tries == 3
    assert mask.any()


def test_material_is_where_the_drawing_says() -> None:
    pose = Pose(x=128.0, y=128.0, radius=100.0, angle=0.0)
    outside, _ = machine(pose, 256)

    assert outside[128, 128] == pytest.approx(0.24 * 100)  # the centre of the bore
    assert outside[128, 128 + 60] < 0  # the face
    assert outside[128, 128 + 76] == pytest.approx(0.105 * 100)  # the centre of hole 0
    assert outside[128, 128 + 110] == pytest.approx(10)  # off the part
    # The area of the ring less six holes; the keyway takes less than a hundredth more.
    area = math.pi * 100**2 * (1 - 0.24**2 - HOLES * 0.105**2)
    assert np.count_nonzero(outside < 0) == pytest.approx(area, rel=0.01)


def test_an_undrilled_hole_is_filled_and_the_others_stay() -> None:
    pose = Pose(x=130.0, y=126.0, radius=105.0, angle=0.05)
    outside, height = machine(pose, 256, holes=(0, 1, 2, 4, 5))
    whole, whole_height = machine(pose, 256)

    x, y = (round(value) for value in to_pixels(pose, *hole_centre(3)))
    assert outside[y, x] < 0 < whole[y, x]
    near = (np.hypot(*(np.indices((256, 256)) - np.array([y, x])[:, None, None])) < 20).astype(bool)
    np.testing.assert_array_equal(outside[~near] > 0, whole[~near] > 0)
    np.testing.assert_array_equal(height[~near], whole_height[~near])


def test_both_marks_are_on_the_face_and_apart() -> None:
    pose = Pose(x=128.0, y=128.0, radius=107.0, angle=0.0)
    text, code = (print_marks(pose, 256, (mark,)) for mark in MARKS)
    outside, _ = machine(pose, 256)

    for ink in (text, code):
        assert ink.max() > 0.7
        assert outside[ink > 0.05].max() < -2
    assert float((text * code).max()) == 0
    assert text[:128].max() == 0  # the text is below the centre, the code above it
    assert code[128:].max() == 0
    np.testing.assert_array_equal(print_marks(pose, 256), text + code)


def test_good_parts_vary_but_little() -> None:
    pictures = np.stack([photograph(part_of(seed, 64)).astype(float) for seed in range(12)])

    spread = pictures.std(axis=0).mean()
    assert 2 < spread < 25
    assert 60 < pictures.mean() < 150


def test_light_and_shadow_of_a_dent_are_opposite() -> None:
    part = part_of(0)
    up = DEFECTS["dent"](part, np.random.default_rng(7))
    change = photograph(up).astype(int).mean(axis=2) - photograph(part).astype(int).mean(axis=2)

    assert change.max() > 10
    assert change.min() < -10


def test_a_picture_keeps_its_meaning_at_another_size() -> None:
    def steady(size: int) -> npt.NDArray[np.uint8]:
        part = part_of(0, size)
        quiet = replace(part.scene, noise=part.scene.noise * 0, conveyor=part.scene.conveyor * 0)
        return photograph(replace(part, scene=quiet, grain=part.grain * 0))

    large = cv2.resize(steady(256), (128, 128), interpolation=cv2.INTER_AREA)
    difference = np.abs(large.astype(int) - steady(128)).mean()

    assert difference < 6


def test_draws_of_a_generator_alone_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisoned global generator changes nothing."""
    draw: Callable[[], npt.NDArray[np.uint8]] = lambda: add_defect(  # noqa: E731
        part_of(1, 64), "chip", np.random.default_rng(4)
    )[0]
    first = draw()
    np.random.seed(99)  # noqa: NPY002
    np.testing.assert_array_equal(draw(), first)
