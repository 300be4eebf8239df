"""The recipe's options as flags: names, types, defaults and help come from `draem.config`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from draem.config import SECTIONS, parse_image_size

_FLAGS = {"region_of_interest.mask": "roi"}
"""Flags with another name than their key."""
_DEFAULTS = {
    "network.tile": "none",
    "network.overlap": "an eighth of a tile",
    "simulation.textures": "the built-in textures",
    "training.steps": "none",
    "training.seed": "0",
    "region_of_interest.mask": "everything",
}
"""What is shown as default if it is not the preset's."""
_PATHS = ("simulation.textures", "region_of_interest.mask")


def recipe_options(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag per key of the recipe, in place of its parameter `overrides`.

    The command receives `overrides` as `draem.make_recipe` takes it.

    Args:
        keys: Such as `network.tile`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        names = {_name(key): key for key in keys}

        @functools.wraps(command)
        def with_overrides(**given: Any) -> None:
            overrides: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
            for name, key in names.items():
                section, _, option = key.partition(".")
                overrides[section][option] = _value(key, given.pop(name))
            command(**given, overrides=overrides)

        own = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            if parameter.name == "overrides":
                parameters += [_parameter(name, key) for name, key in names.items()]
            else:
                parameters.append(parameter)
        with_overrides.__dict__["__signature__"] = own.replace(parameters=parameters)
        with_overrides.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_overrides

    return decorate


def _name(key: str) -> str:
    return _FLAGS.get(key, key.partition(".")[2])


def _parameter(name: str, key: str) -> inspect.Parameter:
    section, _, option = key.partition(".")
    field = SECTIONS[section].model_fields[option]
    kind: Any = field.annotation
    metavar = None
    if option == "image_size":
        kind, metavar = str, "auto|N|HxW"
    elif key in _PATHS:
        kind = Path
    flag = f"--{name.replace('_', '-')}"
    declared = typer.Option(
        flag,
        help=(field.description or "").replace("`", ""),
        metavar=metavar,
        show_default=_DEFAULTS.get(key, "the preset's"),
    )
    annotation = Annotated[Optional[kind], declared]  # noqa: UP045 - `kind` is known at run time
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _value(key: str, given: Any) -> Any:
    if given is None or given is False:
        return None
    if key.endswith(".image_size"):
        return given if given == "auto" else parse_image_size(given)
    # A run can be resumed from another folder.
    return str(given.absolute()) if isinstance(given, Path) else given
