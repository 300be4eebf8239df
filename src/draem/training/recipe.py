"""The recipe: one validated set of options that decides a training run."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from draem.errors import RecipeError
from draem.files import write_text
from draem.simulation.profile import PROFILES, SimulationProfile
from draem.training.presets import PRESETS
from draem.training.sections import (
    NetworkConfig,
    Recipe,
    RoiConfig,
    Section,
    SimulationConfig,
    TrainingConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TWO_SCALES_FROM = 256
"""Pixels of the shorter side; at half the size, smaller images would not show enough."""


def make_recipe(
    preset: str | None = None,
    file: str | Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """A recipe from a preset, a file and options, the later ones winning.

    Args:
        preset: `compact` or `full`; the file's where left out, otherwise `compact`.
        file: A TOML file with any of the recipe's keys.
        overrides: Sections of options, such as `{"training": {"epochs": 10}}`; None is left out.

    Raises:
        RecipeError: A key is unknown (the nearest known one is named) or a value out of range.

    Example:
        >>> make_recipe("full", overrides={"training": {"steps": 100}}).training.epochs is None
        True
    """
    read = _read_toml(file) if file else {}
    layers = [(read, file), (overrides or {}, None)]
    name = str(preset or {**read, **(overrides or {})}.get("preset", "compact"))
    if name not in PRESETS:
        raise RecipeError(
            f"there is no preset `{name}`",
            path=None if preset else file,
            expected="one of " + ", ".join(sorted(PRESETS)),
            hint=_suggestion(name, PRESETS),
        )
    values: dict[str, Any] = {"preset": name, "region_of_interest": {}}
    values |= {section: dict(options) for section, options in PRESETS[name].items()}
    for layer, origin in layers:
        _check_keys(layer, origin)
        for section, options in layer.items():
            if section != "preset":
                _merge(values[section], options)
    return _validated(values, file)


def simulation_profile(recipe: Recipe) -> SimulationProfile:
    """The recipe's profile with the recipe's own values in it.

    Where one scale is looked at, no windows are coarse unless the recipe says so.
    """
    stated = recipe.simulation.model_dump(exclude_none=True, exclude={"profile", "textures"})
    if recipe.network.scales == 1 and recipe.simulation.profile == "varied":
        stated.setdefault("coarse_share", 0.0)
    return dataclasses.replace(PROFILES[recipe.simulation.profile], **stated)


def fixed_image_size(recipe: Recipe) -> tuple[int, int]:
    """The recipe's image size, once it is one.

    Raises:
        RecipeError: It is still `auto`.
    """
    size = recipe.network.image_size
    if size == "auto":
        raise RecipeError(
            "the image size `auto` has not been made a size yet",
            hint="Call draem.training.images.without_auto first",
        )
    return size


def with_scales(recipe: Recipe) -> Recipe:
    """The recipe with the number of scales that `auto` means for its image size and simulation.

    The second scale needs enough pixels, and training windows that show it.

    Raises:
        RecipeError: The image size is still `auto`.
    """
    if recipe.network.scales != "auto":
        return recipe
    enough = min(fixed_image_size(recipe)) >= TWO_SCALES_FROM
    shown = simulation_profile(recipe).coarse_share > 0
    network = recipe.network.model_copy(update={"scales": 2 if enough and shown else 1})
    return recipe.model_copy(update={"network": network})


def fixed_scales(recipe: Recipe) -> int:
    """How many scales the recipe looks at, once that is decided.

    Raises:
        RecipeError: It is still `auto`.
    """
    scales = recipe.network.scales
    if scales == "auto":
        raise RecipeError(
            "the number of scales `auto` has not been made a number yet",
            hint="Call draem.training.images.without_auto first",
        )
    return scales


def write_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as a TOML file that `make_recipe` reads.

    Raises:
        OutputError: The file cannot be written.
    """
    import tomlkit

    values = recipe.model_dump(mode="json", exclude_none=True)
    write_text(path, tomlkit.dumps({key: value for key, value in values.items() if value}))


def parse_image_size(text: str) -> tuple[int, int]:
    """Height and width from `256` or `256x320`.

    Raises:
        RecipeError: The text is neither.

    Example:
        >>> parse_image_size("256x320")
        (256, 320)
    """
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isascii() and part.isdecimal() for part in parts):
        return int(parts[0]), int(parts[-1])
    raise RecipeError(
        "the image size cannot be understood",
        expected="auto, or N or HxW in pixels, such as 256 or 256x320",
        found=text,
    )


def asked_image_size(text: str | None) -> tuple[int, int] | str | None:
    """What a user's word means for a recipe's image size: a size, `auto`, or nothing said."""
    return text if text is None or text == "auto" else parse_image_size(text)


def asked_input(
    image_size: str | None, tile: int | None = None, overlap: int | None = None
) -> dict[str, Any]:
    """What a user's words mean for a recipe's [network].

    Args:
        image_size: A size, `auto`, or None where nothing was said, and so below.
        tile: Side of the tiles.
        overlap: Of neighbouring tiles.
    """
    size = asked_image_size(image_size)
    # Tiles come instead of whatever size a preset or a recipe states.
    return {
        "image_size": (tile, tile) if tile and size is None else size,
        "tile": tile,
        "overlap": overlap,
    }


def _merge(values: dict[str, Any], options: Mapping[str, Any]) -> None:
    given = {key: value for key, value in options.items() if value is not None}
    for alternatives in ({"epochs", "steps", "minutes"}, {"mask", "polygons"}):
        if alternatives & given.keys():
            for key in alternatives:
                values.pop(key, None)
    values.update(given)


def _read_toml(file: str | Path) -> dict[str, Any]:
    path = Path(file)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RecipeError("there is no such recipe file", path=path) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(
            f"the recipe cannot be read ({error})", path=path, expected="a TOML file"
        ) from error


_SECTIONS: dict[str, type[Section]] = {
    "network": NetworkConfig,
    "simulation": SimulationConfig,
    "training": TrainingConfig,
    "region_of_interest": RoiConfig,
}


def _check_keys(layer: Mapping[str, Any], file: str | Path | None) -> None:
    for section, options in layer.items():
        if section == "preset":
            continue
        if section not in _SECTIONS:
            raise _unknown(section, ["preset", *_SECTIONS], file)
        if not isinstance(options, Mapping):
            raise RecipeError(
                f"`{section}` is a section of the recipe", path=file, expected=f"[{section}]"
            )
        for key in options:
            if key not in _SECTIONS[section].model_fields:
                raise _unknown(key, list(_SECTIONS[section].model_fields), file, section)


def _unknown(
    key: str,
    known: list[str],
    file: str | Path | None,
    section: str | None = None,
) -> RecipeError:
    homes = [name for name, kind in _SECTIONS.items() if key in kind.model_fields]
    hint = f"`{key}` belongs under [{homes[0]}]" if homes else None
    place = f" in [{section}]" if section else ""
    return RecipeError(
        f"the recipe key `{key}`{place} is unknown",
        path=file,
        hint=hint or _suggestion(key, known) or "Known keys: " + ", ".join(known),
    )


def _suggestion(word: str, known: Any) -> str | None:
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean `{nearest[0]}`?" if nearest else None


def _validated(values: dict[str, Any], file: str | Path | None) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise RecipeError(
            "the recipe has values that cannot be used", path=file, found=found
        ) from error
