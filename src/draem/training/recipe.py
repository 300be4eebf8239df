"""The recipe: one validated set of options that decides a training run."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from draem.config import (
    DEFAULT_PRESET,
    SECTIONS,
    Recipe,
    ResolvedRecipe,
    foreign_options,
    migrated_recipe,
)
from draem.errors import RecipeError, list_invalid, shortened
from draem.files import write_text
from draem.training.presets import PRESETS

LARGEST_FILE = 2**20
"""Most bytes of a recipe file: a polygon of 20,000 corners has room."""
_LONG_KEY = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){16}""", re.ASCII
)
"""A dotted key of more parts than a recipe has: tomllib needs memory for their number squared."""
_ALTERNATIVES = ({"epochs", "steps", "minutes"}, {"mask", "polygons"})


def make_recipe(
    preset: str | None = None,
    file: str | Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """A recipe from a preset, a file and options, the later ones winning.

    Args:
        preset: `pretrained`, `compact`, `full` or `published`; the file's if omitted, otherwise
            `pretrained`.
        file: A TOML file with any of the recipe's keys.
        overrides: Sections of options, such as `{"training": {"epochs": 10}}`; None is left out.

    Raises:
        RecipeError: A key is unknown (the nearest known one is named) or a value out of range.

    Example:
        >>> make_recipe("full", overrides={"training": {"steps": 100}}).training.epochs is None
        True
    """
    read = migrated_recipe(_read_toml(file)) if file else {}
    layers = [(read, file), (overrides or {}, None)]
    name = str(preset or {**read, **(overrides or {})}.get("preset", DEFAULT_PRESET))
    if name not in PRESETS:
        raise RecipeError(
            f"there is no preset `{shortened(name)}`",
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


def write_recipe(recipe: ResolvedRecipe, path: str | Path) -> None:
    """Write a recipe as a TOML file that `make_recipe` reads.

    Raises:
        OutputError: The file cannot be written.
    """
    import tomlkit

    values = recipe.model_dump(mode="json", exclude_none=True)
    values["simulation"] = recipe.simulation.stated()
    write_text(path, tomlkit.dumps({key: value for key, value in values.items() if value}))


def _merge(values: dict[str, Any], options: Mapping[str, Any]) -> None:
    given = {key: value for key, value in options.items() if value is not None}
    for alternatives in _ALTERNATIVES:
        if alternatives & given.keys():
            for key in alternatives:
                values.pop(key, None)
    if "tile" in given:  # it replaces the image size of an earlier layer
        values.pop("image_size", None)
    for key in foreign_options(given["profile"]) if "profile" in given else ():
        values.pop(key, None)  # meant for the profile of an earlier layer
    values.update(given)


def _read_toml(file: str | Path) -> dict[str, Any]:
    path = Path(file)
    try:
        with path.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise RecipeError(
                "the recipe is too large", path=path, expected=f"at most {LARGEST_FILE} bytes"
            )
        text = data.decode("utf-8-sig")
        if _LONG_KEY.search(text):
            raise RecipeError(
                "the recipe has a key of too many parts", path=path, expected="section.key"
            )
        return tomllib.loads(text)
    except FileNotFoundError as error:
        raise RecipeError("there is no such recipe file", path=path) from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: TOML, UTF-8, long numbers
        raise RecipeError(
            f"the recipe cannot be read ({shortened(str(error))})",
            path=path,
            expected="a TOML file",
        ) from error


def _check_keys(layer: Mapping[str, Any], file: str | Path | None) -> None:
    for section, options in layer.items():
        if section == "preset":
            continue
        if section not in SECTIONS:
            raise _unknown(section, ["preset", *SECTIONS], file)
        if not isinstance(options, Mapping):
            raise RecipeError(
                f"`{section}` is a section of the recipe", path=file, expected=f"[{section}]"
            )
        for key in options:
            if key not in SECTIONS[section].model_fields:
                raise _unknown(key, list(SECTIONS[section].model_fields), file, section)


def _unknown(
    key: str,
    known: list[str],
    file: str | Path | None,
    section: str | None = None,
) -> RecipeError:
    homes = [name for name, kind in SECTIONS.items() if key in kind.model_fields]
    hint = f"`{key}` belongs under [{homes[0]}]" if homes else None
    place = f" in [{section}]" if section else ""
    return RecipeError(
        f"the recipe key `{shortened(key)}`{place} is unknown",
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
        raise RecipeError(
            "the recipe has values that cannot be used",
            path=file,
            found=list_invalid(error.errors()),
        ) from error
