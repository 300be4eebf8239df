from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from draem.simulation import lut
from draem.simulation.augment import (
    PAPER_OPERATIONS,
    UPSTREAM_OPERATIONS,
    AugmentationPlan,
    Operation,
    augment,
    sample_plan,
)
from draem.simulation.batch_indexing import take

Pixels = npt.NDArray[np.uint8]
OPERATIONS = {"paper": PAPER_OPERATIONS, "upstream": UPSTREAM_OPERATIONS}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def in_order(names: list[str], parameters: dict[str, float], profile: str) -> AugmentationPlan:
    """A plan for one picture that applies the named operations in that order."""
    operations = OPERATIONS[profile]
    places = [[operation.name for operation in operations].index(name) for name in names]
    plan = sample_plan(operations, 1, len(names), seeded(0))
    for operation, columns in zip(operations, plan.columns, strict=True):
        plan.parameters[:, :, columns] = float(parameters.get(operation.name, 0))
    return replace(plan, choices=torch.tensor([places]))


def one_at_a_time(
    image: Tensor, operations: tuple[Operation, ...], plan: AugmentationPlan
) -> Tensor:
    """Every operation on finished pixels, with nothing pending."""
    for place, chosen in enumerate(plan.choices[0].tolist()):
        operation = operations[chosen]
        parameters = plan.parameters[:, place, plan.columns[chosen]]
        if operation.lut is not None:
            image = lut.apply(image, operation.lut(parameters))
        elif operation.fitted_lut is not None:
            table = operation.fitted_lut(parameters, lut.value_counts(image))
            image = lut.apply(image, table)
        else:
            assert operation.pixels is not None
            image = operation.pixels(image, parameters)
    return image


@pytest.mark.parametrize("profile", ["paper", "upstream"])
def test_each_picture_gets_different_operations_all_equally_often(profile: str) -> None:
    operations = OPERATIONS[profile]

    choices = sample_plan(operations, 4000, 3, seeded(1)).choices

    assert choices.shape == (4000, 3)
    assert all(len(set(row)) == 3 for row in choices.tolist())
    for place in range(3):
        shares = torch.bincount(choices[:, place], minlength=len(operations)) / 4000
        assert float((shares - 1 / len(operations)).abs().max()) < 0.025


def test_the_same_seed_gives_the_same_plan() -> None:
    first, again, other = (sample_plan(UPSTREAM_OPERATIONS, 6, 3, seeded(s)) for s in (4, 4, 5))

    assert torch.equal(first.choices, again.choices)
    assert torch.equal(first.parameters, again.parameters)
    assert not torch.equal(first.choices, other.choices)
    assert not torch.equal(first.parameters[:, 0], first.parameters[:, 1])


RANGES: dict[str, dict[str, list[tuple[float, float]]]] = {
    "paper": {
        "posterize": [(2, 6)],
        "sharpness": [(0, 4)],
        "solarize": [(32, 256)],
        "equalize": [],
        "brightness": [(0.5, 1.5)],
        "color": [(0, 3)],
        "autocontrast": [],
    },
    "upstream": {
        "gamma": [(0.5, 2)] * 3,
        "brightness": [(0.8, 1.2), (-30, 30)],
        "sharpness": [(0, 2)],
        "hue_saturation": [(-50 / 255, 50 / 255)] * 2,
        "solarize": [(32, 256)],
        "posterize": [(1, 8)],
        "invert": [],
        "autocontrast": [(0, 20)],
        "equalize": [],
        "rotate": [(-45, 45)],
    },
}


@pytest.mark.parametrize("profile", ["paper", "upstream"])
def test_operations_draw_from_their_whole_range(profile: str) -> None:
    operations = OPERATIONS[profile]

    assert [operation.name for operation in operations] == list(RANGES[profile])
    for operation in operations:
        ranges = RANGES[profile][operation.name]
        drawn = operation.sample(4000, seeded(2))
        assert drawn.shape == (4000, len(ranges))
        assert drawn.dtype == torch.float32
        for column, (low, high) in zip(drawn.unbind(1), ranges, strict=True):
            slack = 0.01 * (high - low)
            assert low <= float(column.min()) <= low + slack
            assert high - slack <= float(column.max()) <= high


def test_upstream_solarizes_half_of_its_pictures() -> None:
    (solarize,) = (o for o in UPSTREAM_OPERATIONS if o.name == "solarize")

    thresholds = solarize.sample(4000, seeded(3))

    untouched = thresholds == 256
    assert float(untouched.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(thresholds[~untouched].max()) <= 128


@pytest.mark.parametrize("profile", ["paper", "upstream"])
def test_pending_tables_equal_operations_one_at_a_time(profile: str, batch: Tensor) -> None:
    operations = OPERATIONS[profile]
    images = batch.repeat(4, 1, 1, 1)
    plan = sample_plan(operations, len(images), 4, seeded(6))

    augmented = augment(images, operations, plan)

    assert augmented.dtype == torch.uint8
    for number in range(len(images)):
        expected = one_at_a_time(
            images[number : number + 1], operations, take(plan, torch.tensor([number]))
        )
        assert torch.equal(augmented[number : number + 1], expected)
    assert (augmented != images).flatten(1).any(1).float().mean() > 0.7


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "posterize": lambda picture, bits: ImageOps.posterize(picture, int(bits)),
    "solarize": ImageOps.solarize,  # type: ignore[dict-item]
    "equalize": lambda picture, _: ImageOps.equalize(picture),
    "invert": lambda picture, _: ImageOps.invert(picture),
    "autocontrast": ImageOps.autocontrast,
    "sharpness": lambda picture, factor: ImageEnhance.Sharpness(picture).enhance(factor),
    "brightness": lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
}


@pytest.mark.parametrize(
    ("profile", "names", "parameters", "levels"),
    [
        ("paper", ["posterize", "solarize", "equalize"], {"posterize": 5, "solarize": 90}, 0),
        ("paper", ["equalize", "posterize", "solarize"], {"posterize": 3, "solarize": 140}, 0),
        # Sharpness 0 is pure smoothing, which Pillow rounds as we do.
        ("paper", ["solarize", "sharpness", "equalize"], {"solarize": 120, "sharpness": 0}, 0),
        ("upstream", ["invert", "sharpness", "posterize"], {"sharpness": 0, "posterize": 4}, 0),
        ("upstream", ["equalize", "invert", "solarize"], {"solarize": 128}, 0),
        # Pillow drops the fractions of these three; a level is lost where they come last.
        (
            "upstream",
            ["invert", "posterize", "autocontrast"],
            {"posterize": 6, "autocontrast": 5},
            1,
        ),
        ("upstream", ["equalize", "sharpness", "invert"], {"sharpness": 1.6}, 1),
        ("paper", ["posterize", "equalize", "brightness"], {"posterize": 4, "brightness": 1.3}, 1),
    ],
)
def test_a_sequence_equals_pillows(
    batch: Tensor, profile: str, names: list[str], parameters: dict[str, float], levels: int
) -> None:
    operations = OPERATIONS[profile]
    for picture in batch:
        augmented = augment(picture[None], operations, in_order(names, parameters, profile))[0]
        expected = Image.fromarray(picture.permute(1, 2, 0).numpy())
        for name in names:
            expected = PILLOW[name](expected, parameters.get(name, 0))
        difference = augmented.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)
        assert np.abs(difference).max() <= levels


def test_order_matters(batch: Tensor) -> None:
    settings = {"posterize": 3.0, "brightness": 0.7}
    there, back = (
        augment(batch[:1], PAPER_OPERATIONS, in_order(names, settings, "paper"))
        for names in (["posterize", "brightness"], ["brightness", "posterize"])
    )

    assert not torch.equal(there, back)


@pytest.mark.parametrize("profile", ["paper", "upstream"])
def test_a_picture_does_not_depend_on_its_neighbours(profile: str, batch: Tensor) -> None:
    operations = OPERATIONS[profile]
    plan = sample_plan(operations, len(batch), 3, seeded(8))

    together = augment(batch, operations, plan)

    rows = torch.tensor([5, 0, 3])
    assert torch.equal(together[rows], augment(batch[rows], operations, take(plan, rows)))


@pytest.mark.parametrize("profile", ["paper", "upstream"])
def test_the_given_images_stay_as_they_were(profile: str, batch: Tensor) -> None:
    operations, before = OPERATIONS[profile], batch.clone()
    plan = sample_plan(operations, len(batch), 3, seeded(9))

    first = augment(batch, operations, plan)

    assert torch.equal(batch, before)
    assert torch.equal(first, augment(batch, operations, plan))
    assert not torch.equal(first, batch)


def test_no_operations_change_nothing(batch: Tensor) -> None:
    plan = sample_plan(PAPER_OPERATIONS, len(batch), 0, seeded(0))

    assert torch.equal(augment(batch, PAPER_OPERATIONS, plan), batch)
