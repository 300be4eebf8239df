from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from draem.datasets.groups import Groups, group_images, told_groups
from draem.datasets.likeness import Look, look_at
from draem.errors import DatasetError, RecipeError


def looks(count: int, copies_of: dict[int, int] | None = None) -> list[Look]:
    """Looks of unlike pictures, some of them copies of others."""
    sources = [(copies_of or {}).get(number, number) for number in range(count)]
    return [
        look_at(np.random.default_rng(source).integers(0, 256, (20, 20, 3), np.uint8))
        for source in sources
    ]


def paths(names: Sequence[str]) -> list[Path]:
    return [Path("parts") / f"{name}.png" for name in names]


def grouped(names: Sequence[str], group_by: str = "auto") -> Groups:
    return group_images(paths(names), looks(len(names)), group_by)


SUFFIXES = [("_Part0", "_Part1"), ("_1", "_2"), ("-a", "-b"), (" view1", " view2"), (".cam2", "")]


@pytest.mark.parametrize("ends", SUFFIXES)
def test_series_are_found_by_name(ends: tuple[str, str]) -> None:
    names = [f"kos{part:02d}{end}" for part in range(9) for end in ends]

    found = grouped(names)

    assert found.by == "by name"
    assert list(found.ids) == [number // 2 for number in range(18)]


@pytest.mark.parametrize(
    "names",
    [
        [f"{number:03d}" for number in range(40)],  # MVTec
        [f"img_{number:02d}" for number in range(40)],  # one beginning for all
        [f"part{part}_{view}" for part in range(7) for view in range(3)],  # too few series
        [f"part{part}_1" for part in range(30)],  # series of one
        [f"part{part}_{1000 + part}" for part in range(30)],  # numbers, not short ends
        [*(f"a_{n:02d}" for n in range(20)), *(f"b{n}_{v}" for n in range(9) for v in (1, 2))],
    ],
)
def test_other_names_say_nothing(names: list[str]) -> None:
    found = grouped(names)

    assert list(found.ids) == list(range(len(names)))
    assert told_groups(found) == ""


def test_series_of_one_name_in_two_folders_are_two() -> None:
    files = [
        Path(folder) / f"p{part}_{view}.png"
        for folder in "ab"
        for part in range(6)
        for view in "xy"
    ]

    assert group_images(files, looks(24)).count == 12


@pytest.mark.parametrize("group_by", ["auto", "image", "folder", r"p\d+"])
def test_copies_are_together_whatever_the_grouping(group_by: str) -> None:
    files = [Path(str(number % 6)) / f"p{number}.png" for number in range(12)]

    found = group_images(files, looks(12, {11: 0, 7: 2}), group_by)

    assert found.ids[11] == found.ids[0]
    assert found.ids[7] == found.ids[2]
    if group_by != "folder":
        assert found.count == 10


def test_copies_join_the_groups_that_they_are_in() -> None:
    names = [f"p{part}-{view}" for part in range(10) for view in "ab"]

    found = group_images(paths(names), looks(20, {19: 0}))

    assert found.count == 9
    assert set(np.flatnonzero(found.ids == 0)) == {0, 1, 18, 19}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        (r"^(\d+)_", [0, 0, 1, 2, 3]),  # the first group
        (r"^\d+", [0, 0, 1, 2, 3]),  # the whole match
        (r"^(?:(\d+)_)?.", [0, 0, 1, 2, 3]),  # a group that took no part
        (r"(left|right)", [0, 1, 2, 3, 4]),
    ],
)
def test_an_expression_names_the_part(expression: str, wanted: list[int]) -> None:
    names = ["7_left", "7_right", "8_up", "9_up", "other"]

    found = grouped(names, expression)

    assert list(found.ids) == wanted
    assert found.by == "by expression"


def test_an_expression_without_a_match_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"`lot\(\\d\)`.*matches no file name.*a\.png"):
        grouped(["a", "b"], r"lot(\d)")


def test_a_broken_expression_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"auto, image, folder or a regular.*Found \(\["):
        grouped(["a", "b"], "([")


@pytest.mark.parametrize("group_by", ["folder", "^(.)"])
def test_fewer_than_four_groups_are_refused(group_by: str) -> None:
    with pytest.raises(DatasetError, match=r"5 images into 1 group.*at least 4.*`image`"):
        grouped(["a1", "a2", "a3", "a4", "a5"], group_by)
    assert grouped(["a1", "a2", "a3"], group_by).count == 1, "there are no 4 pictures"


def series(parts: int, exposures: int, seed: int = 0) -> list[np.ndarray]:
    """Several exposures of each part in a row, brighter and brighter and a little shifted."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(parts):
        coarse = rng.random((8, 8, 3)).repeat(12, 0).repeat(12, 1)
        for exposure in range(exposures):
            top, left = rng.integers(0, 5, 2)
            seen = coarse[top : top + 90, left : left + 90] * (0.3 + 0.1 * exposure)
            pictures.append((255 * seen + rng.random((90, 90, 3))).astype(np.uint8))
    return pictures


def likeness_groups(pictures: Sequence[np.ndarray], names: Sequence[str]) -> Groups:
    return group_images(paths(names), [look_at(picture) for picture in pictures])


def gapped(count: int) -> list[str]:
    return [f"exp{1 + number % 6}_num_{1000 + 17 * number}" for number in range(count)]


def test_exposures_of_one_part_are_found_by_likeness() -> None:
    found = likeness_groups(series(40, 5), gapped(200))

    assert found.by == "by likeness"
    assert told_groups(found) == "200 images in 40 groups (by likeness)"
    assert list(found.ids) == [number // 5 for number in range(200)]


def test_the_order_of_the_files_does_not_matter_to_likeness() -> None:
    pictures, names = series(40, 5), gapped(200)
    order = np.random.default_rng(1).permutation(200)

    found = likeness_groups([pictures[i] for i in order], [names[i] for i in order])

    assert found.count == 40
    assert len(set(zip(found.ids, order // 5, strict=True))) == 40


def test_exposures_of_two_parts_that_take_turns_are_told_apart() -> None:
    pictures = series(40, 4)
    turns = [pictures[8 * pair + i % 2 * 4 + i // 2] for pair in range(20) for i in range(8)]

    found = likeness_groups(turns, gapped(160))

    parts = [2 * (number // 8) + number % 2 for number in range(160)]
    assert len(set(zip(found.ids, parts, strict=True))) == 40, "a part was cut"
    assert found.count >= 38, "more were joined than by chance"


def test_numbers_without_gaps_are_not_compared() -> None:
    names = [f"{number:03d}" for number in range(200)]

    assert likeness_groups(series(40, 5), names).count == 200


@pytest.mark.parametrize("count", [4, 31, 150])
def test_unlike_pictures_stay_apart(count: int) -> None:
    assert likeness_groups(series(count, 1), gapped(count)).count == count


def test_a_series_that_drifts_without_end_is_no_grouping() -> None:
    strip = np.random.default_rng(0).random((8, 400)).repeat(12, 0).repeat(12, 1)
    frames = [
        255 * strip[:90, 4 * number : 4 * number + 90, None].repeat(3, 2) for number in range(200)
    ]

    found = likeness_groups([frame.astype(np.uint8) for frame in frames], gapped(200))

    assert found.count == 200


def test_flat_pictures_are_like_nothing() -> None:
    flat = [np.full((20, 20, 3), level, np.uint8) for level in range(40)]

    assert likeness_groups(flat, gapped(40)).count == 40
    assert likeness_groups([flat[0]] * 40, gapped(40)).count == 1
