"""The model card: everything a model file says of its model, apart from the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from draem.config import (
    Options,
    Recipe,
    ResolvedNetworkConfig,
    ResolvedRecipe,
    migrated_recipe,
)
from draem.errors import ModelFileError, RecipeError, list_invalid

FORMAT = 2
LOWEST_SCORE, HIGHEST_SCORE = -1e-4, 1 + 1e-4
"""Scores and map values are in [0, 1]; what runtimes compute is off by a few roundings."""
_Threshold = Annotated[float, Field(ge=0, le=1.001)]
"""A threshold that nothing reaches is a little above the highest score."""
_Rate = Annotated[float, Field(gt=0, lt=1)]
_Count = Annotated[int, Field(ge=1, le=10**12)]


class Calibration(Options):
    """How the thresholds were found.

    Attributes:
        threshold: Scores at or above it are anomalous; a little above 1 if none shall be.
        false_reject_rate: The promised bound on the share of good images rejected, in (0, 1).
        images: Good images that the thresholds were computed from.
        groups: How many groups they are, each of all pictures of one part; None if each is one.
        cross_fitted: Whether the images were not held out, but each was scored without what was
            learned from its own fold.
        review_threshold: Scores at or above it, but below `threshold`, are for a person to review.
        review_rate: The promised bound on the share of good images at or above it, in (0, 1).
        pixel_threshold: Map values at or above it are marked; without one, those at or above
            `threshold`.
        pixel_false_positive_rate: The share of a good image's pixels, in [0, 1), that at most the
            share `false_reject_rate` of good images exceeds at the pixel threshold.
    """

    threshold: _Threshold
    false_reject_rate: _Rate
    images: _Count
    groups: _Count | None = None
    cross_fitted: bool = False
    review_threshold: _Threshold | None = None
    review_rate: _Rate | None = None
    pixel_threshold: _Threshold | None = None
    pixel_false_positive_rate: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for threshold, rate in (
            (self.review_threshold, self.review_rate),
            (self.pixel_threshold, self.pixel_false_positive_rate),
        ):
            if (threshold is None) != (rate is None):
                raise ValueError("a threshold and its rate must be given together")
        if self.review_threshold is not None and self.review_threshold > self.threshold:
            raise ValueError("the threshold for review is above the threshold")
        if self.review_rate is not None and self.review_rate <= self.false_reject_rate:
            raise ValueError("the rate of review must be above the false-reject rate")
        if self.groups is not None and self.groups > self.images:
            raise ValueError("there are more groups than images")
        return self

    @property
    def parts(self) -> int:
        """What counts for the guarantee: the groups, or the images if each is one."""
        return self.images if self.groups is None else self.groups


class TrainingSet(Options):
    """What the model was trained on.

    Attributes:
        images: Number of normal images, held-out ones not counted.
        fingerprint: Hash of the decoded pictures.
        held_out: Number of held-out images; None in files of 0.1.0.
    """

    images: _Count
    fingerprint: str
    held_out: Annotated[int, Field(ge=0, le=10**12)] | None = None


class ModelCard(Options):
    """Everything about a model except its weights.

    Attributes:
        format: Version of this file format.
        preset: Name of the recipe's preset, or `upstream` for an imported checkpoint.
        network: The networks and their input.
        region_of_interest: What is inspected, as a PNG picture in base64, of the image size and
            one bit per pixel, white where to inspect; None for everything.
        recipe: The training recipe as it was used; None for an imported checkpoint.
        calibration: The thresholds, if there are any.
        training_set: Size and fingerprint of the training set, if known.
        versions: Versions of draem and of the libraries it trained with.
        figures: Figures measured at the end of training, by name.
        fingerprint: Hash of the weights; filled in on writing, verified on reading.
    """

    format: int = Field(FORMAT, ge=1)
    preset: str
    network: ResolvedNetworkConfig
    region_of_interest: str | None = None
    recipe: ResolvedRecipe | None = None
    calibration: Calibration | None = None
    training_set: TrainingSet | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    figures: dict[str, float] = Field(default_factory=dict)
    fingerprint: str = ""

    @model_validator(mode="before")
    @classmethod
    def _migrate(cls, card: Any) -> Any:
        if isinstance(card, dict) and card.get("format") == 1:
            try:
                return _from_format_1(card)
            except (AttributeError, LookupError, TypeError, RecipeError) as error:
                raise ValueError(f"this is not a card of format 1 ({error})") from error
        return card


_FORMAT_1_NETWORK = (
    "reconstructive_width",
    "discriminative_width",
    "shape",
    "scales",
    "image_size",
    "interpolation",
    "smoothing",
)


def _from_format_1(card: dict[str, Any]) -> dict[str, Any]:
    """Format 1 repeated the network's options at the top level."""
    network = {key: card[key] for key in _FORMAT_1_NETWORK if key in card}
    if "image_size" not in network:
        raise ValueError("this is not a card of format 1 (it has no image_size)")
    network = migrated_recipe({"network": network})["network"]
    tiling, recipe = card.get("tiling"), card.get("recipe") or None
    if tiling:
        network |= {"tile": network["image_size"][0], **tiling}
    if recipe:
        settled = Recipe.model_validate(migrated_recipe(recipe)).resolve()
        recipe = settled.model_dump(mode="json")
    old = {*_FORMAT_1_NETWORK, "tiling"}
    kept = {key: value for key, value in card.items() if key not in old}
    return {**kept, "format": FORMAT, "network": network, "recipe": recipe}


def parse_card(path: str | Path, text: str) -> ModelCard:
    """The model card that a file holds as JSON.

    Args:
        path: The file, for errors.
        text: The card.

    Raises:
        ModelFileError: It is no card, a value is out of range, or its format is a newer one.
    """
    try:
        card = ModelCard.model_validate_json(text)
    except (ValidationError, RecipeError) as error:
        problem = error if isinstance(error, RecipeError) else list_invalid(error.errors())
        raise ModelFileError(
            "the model's metadata cannot be understood",
            path=path,
            found=str(problem),
            hint="It may come from a newer draem; update draem",
        ) from error
    if card.format > FORMAT:
        raise ModelFileError(
            "the model file is of a newer format",
            path=path,
            expected=f"format {FORMAT} or older",
            found=f"format {card.format}",
            hint="Update draem",
        )
    return card
