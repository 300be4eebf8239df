"""The recipe: one validated set of options that decides a training run."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from draem.errors import RecipeError
from draem.files import write_text
from draem.simulation.profile import PROFILES, SimulationProfile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Preset = Literal["compact", "full"]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetworkSection(_Section):
    """The networks and their input.

    Attributes:
        reconstructive_width: Channels of the reconstructive sub-network's first stage.
        discriminative_width: Channels of the discriminative sub-network's first stage.
        image_size: Height and width of the network's input, multiples of 32.
        interpolation: `bilinear` as published, or `area`, which averages when it shrinks.
    """

    reconstructive_width: int = Field(128, ge=1, le=1024)
    discriminative_width: int = Field(64, ge=1, le=1024)
    image_size: tuple[int, int] = (256, 256)
    interpolation: Literal["bilinear", "area"] = "bilinear"


class SimulationSection(_Section):
    """The simulated anomalies; what is left out comes from the profile.

    Attributes:
        profile: `paper` or `upstream`.
        rotation_degrees: Normal images are rotated by up to this, either way.
        rotation_share: Share of the normal images that are rotated.
        clean_share: Share of the samples that stay normal.
        opacity: Range of the weight of the anomaly source.
        threshold: Range of the level at which the noise becomes a mask.
        grey_sources: Make anomaly sources grey where the normal images are grey.
        textures: Folder of anomaly sources; the built-in ones where left out.
    """

    profile: Literal["paper", "upstream"] = "upstream"
    rotation_degrees: float | None = Field(None, ge=0, le=180)
    rotation_share: float | None = Field(None, ge=0, le=1)
    clean_share: float | None = Field(None, ge=0, le=1)
    opacity: tuple[_Share, _Share] | None = None
    threshold: tuple[_Share, _Share] | None = None
    grey_sources: bool | None = None
    textures: str | None = None

    @field_validator("opacity", "threshold")
    @classmethod
    def _rising(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits and limits[0] > limits[1]:
            raise ValueError("give the lower end first")
        return limits


class TrainingSection(_Section):
    """The optimisation.

    Attributes:
        epochs: Length of the run in passes over the training images.
        steps: Length in steps instead.
        minutes: Length in minutes instead.
        batch_size: Samples a step, over all devices.
        learning_rate: Of Adam, at its highest.
        schedule: `paper` (x0.1 at 4/7 and 6/7 of the run), `upstream` (x0.2 at 0.8 and 0.9),
            `cosine` (warm-up over 5 %, then a half cosine to 1 %) or `constant`.
        l2_weight: Weight of the squared error of the reconstruction.
        ssim_weight: Weight of 1 - SSIM of the reconstruction.
        focal_weight: Weight of the focal loss of the mask.
        focal_gamma: Its focusing parameter.
        average_decay: Decay of the moving average of the weights; 0 for none.
        seed: Decides everything random.
        precision: `32`, `bf16`, `16`, or `auto`: bf16 where the device has matrix units for it,
            otherwise 32.
        held_out_share: Share of the normal images kept from training, for validation and
            calibration.
        false_reject_rate: What the threshold promises, as far as the held-out images support it.
        checkpoint_seconds: How often the state to resume from is saved; 0 for after every step.
    """

    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Literal["paper", "upstream", "cosine", "constant"] = "paper"
    l2_weight: float = Field(1, ge=0)
    ssim_weight: float = Field(1, ge=0)
    focal_weight: float = Field(1, ge=0)
    focal_gamma: float = Field(2, ge=0)
    average_decay: float = Field(0.999, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    held_out_share: float = Field(0.1, ge=0, lt=1)
    false_reject_rate: float = Field(0.01, gt=0, lt=1)
    checkpoint_seconds: float = Field(60, ge=0)

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSection:
        if sum(length is not None for length in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("give exactly one of epochs, steps and minutes")
        return self


class Recipe(_Section):
    """Everything that decides a training run, apart from the images.

    Attributes:
        preset: The name of the preset that the values started from.
        network: The networks and their input.
        simulation: The simulated anomalies.
        training: The optimisation.
    """

    preset: Preset
    network: NetworkSection
    simulation: SimulationSection
    training: TrainingSection


_PRESETS: dict[Preset, dict[str, dict[str, Any]]] = {
    "full": {
        "network": {},
        "simulation": {"profile": "paper"},
        "training": {"epochs": 700},
    },
    "compact": {
        "network": {
            "reconstructive_width": 16,
            "discriminative_width": 16,
            "interpolation": "area",
        },
        "simulation": {"profile": "upstream", "rotation_share": 0.0},
        "training": {
            "minutes": 10.0,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "average_decay": 0.99,
        },
    },
}


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
    if name not in _PRESETS:
        raise RecipeError(
            f"there is no preset `{name}`",
            path=None if preset else file,
            expected="one of " + ", ".join(sorted(_PRESETS)),
            hint=_suggestion(name, _PRESETS),
        )
    values: dict[str, Any] = {"preset": name}
    values |= {section: dict(options) for section, options in _PRESETS[name].items()}
    for layer, origin in layers:
        _check_keys(layer, origin)
        for section, options in layer.items():
            if section != "preset":
                _merge(values[section], options)
    return _validated(values, file)


def simulation_profile(recipe: Recipe) -> SimulationProfile:
    """The recipe's profile with the recipe's own values in it."""
    stated = recipe.simulation.model_dump(exclude_none=True, exclude={"profile", "textures"})
    return dataclasses.replace(PROFILES[recipe.simulation.profile], **stated)


def write_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as a TOML file that `make_recipe` reads.

    Raises:
        OutputError: The file cannot be written.
    """
    import tomlkit

    values = recipe.model_dump(mode="json", exclude_none=True)
    write_text(path, tomlkit.dumps(values))


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
        expected="N or HxW in pixels, such as 256 or 256x320",
        found=text,
    )


def _merge(values: dict[str, Any], options: Mapping[str, Any]) -> None:
    given = {key: value for key, value in options.items() if value is not None}
    lengths = {"epochs", "steps", "minutes"}
    if lengths & given.keys():
        for key in lengths:
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


_SECTIONS: dict[str, type[_Section]] = {
    "network": NetworkSection,
    "simulation": SimulationSection,
    "training": TrainingSection,
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
