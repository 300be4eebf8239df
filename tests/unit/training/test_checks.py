from __future__ import annotations

from typing import Any

import pytest
import torch

from draem.config import ResolvedRecipe
from draem.errors import InputError
from draem.training.checks import check_devices, check_pretrained
from draem.training.recipe import make_recipe


def recipe_of(batch_size: int, size: tuple[int, int], **simulation: Any) -> ResolvedRecipe:
    recipe = make_recipe(
        "compact",
        overrides={
            "network": {"image_size": size},
            "simulation": simulation,
            "training": {"batch_size": batch_size},
        },
    )
    return recipe.resolve()


@pytest.mark.parametrize(
    ("recipe", "devices"),
    [
        (recipe_of(1, (32, 32)), 1),
        (recipe_of(2, (32, 32)), 2),
        # A window is all that the network sees.
        (recipe_of(1, (256, 256), crop=32), 1),
        (recipe_of(4, (256, 256), crop=32), 4),
        (recipe_of(1, (32, 256), crop=32), 1),
    ],
)
def test_a_step_that_batch_normalisation_could_not_take_is_refused(
    recipe: ResolvedRecipe, devices: int
) -> None:
    with pytest.raises(InputError, match="too little for batch normalisation"):
        check_devices(devices, recipe, torch.device("cpu"))


@pytest.mark.parametrize(
    ("recipe", "devices"),
    [
        (recipe_of(2, (32, 32)), 1),
        (recipe_of(1, (32, 64)), 1),
        (recipe_of(2, (256, 256), crop=32), 1),
        (recipe_of(1, (256, 256), crop=64), 1),
        # Other profiles take whole images.
        (recipe_of(1, (256, 256), profile="paper"), 1),
    ],
)
def test_anything_more_is_taken(recipe: ResolvedRecipe, devices: int) -> None:
    check_devices(devices, recipe, torch.device("cpu"))


def test_windows_are_refused_where_whole_images_are_taken() -> None:
    usual = make_recipe("pretrained", overrides={"network": {"image_size": (64, 64)}})
    check_pretrained(usual.resolve(), 1)
    windows = make_recipe(
        "pretrained",
        overrides={"network": {"image_size": (64, 64)}, "simulation": {"crop": 32}},
    )
    with pytest.raises(InputError, match="whole images, not windows of 32 pixels"):
        check_pretrained(windows.resolve(), 1)
