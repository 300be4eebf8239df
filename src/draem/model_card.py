"""The model card: everything a model file says of its model, apart from the weights."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 1


class _Card(BaseModel):
    # JSON has no number for infinity and NaN, so a card that held one could not be read again.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Calibration(_Card):
    """How the thresholds were found.

    Attributes:
        threshold: Scores at or above it are anomalous.
        false_reject_rate: The promised bound on the share of good images rejected, in (0, 1).
        images: Held-out good images that the thresholds were computed from.
        review_threshold: Scores at or above it, but below `threshold`, are for a person to look at.
        review_rate: The promised bound on the share of good images at or above it, in (0, 1).
        pixel_threshold: Map values at or above it are marked; without one, those at or above
            `threshold`.
        pixel_false_positive_rate: The share of a good image's pixels, in [0, 1), that at most the
            share `false_reject_rate` of good images exceeds at the pixel threshold.
    """

    threshold: float
    false_reject_rate: float
    images: int
    review_threshold: float | None = None
    review_rate: float | None = None
    pixel_threshold: float | None = None
    pixel_false_positive_rate: float | None = None


class TrainingSet(_Card):
    """What the model was trained on.

    Attributes:
        images: Number of normal images, held-out ones not counted.
        fingerprint: Hash of the decoded pictures.
    """

    images: int
    fingerprint: str


class Tiling(_Card):
    """How images of any size are cut into tiles of the network's size.

    Attributes:
        overlap: Of neighbouring tiles, in pixels; at most half of a tile.
    """

    overlap: int = Field(ge=0)


class ModelCard(_Card):
    """Everything about a model except its weights.

    Attributes:
        format: Version of this file format.
        preset: Name of the recipe's preset, or `upstream` for an imported checkpoint.
        reconstructive_width: Channels of the reconstructive sub-network's first stage; 0 for
            a model without one.
        discriminative_width: Channels of the discriminative sub-network's first stage.
        shape: `published` or `compact`; see `draem.networks.model.Draem`.
        scales: How many scales the network looks at, each half as fine as the one before.
        image_size: Height and width that images are resized to, or of the tiles they are cut into.
        interpolation: How they are resized.
        smoothing: Side of the score's mean filter at 256 pixels, in proportion at other sizes.
        region_of_interest: What is inspected, as a PNG picture in base64, of the image size and
            one bit a pixel, white where to inspect; None for everything.
        tiling: How images are cut, where they are not resized.
        recipe: The training recipe as it was used; empty for an imported checkpoint.
        calibration: The threshold, where there is one.
        training_set: Size and fingerprint of the training set, where known.
        versions: Versions of draem and of the libraries it trained with.
        figures: Figures measured at the end of training, by name.
        fingerprint: Hash of the weights; filled in on writing, verified on reading.
    """

    format: int = FORMAT
    preset: str
    reconstructive_width: int = Field(ge=0)
    discriminative_width: int = Field(ge=1)
    shape: Literal["published", "compact"] = "published"
    scales: int = Field(1, ge=1, le=4)
    image_size: tuple[int, int]
    interpolation: Literal["bilinear", "area"] = "bilinear"
    smoothing: int = Field(21, ge=1, le=127)
    region_of_interest: str | None = None
    tiling: Tiling | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    calibration: Calibration | None = None
    training_set: TrainingSet | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    figures: dict[str, float] = Field(default_factory=dict)
    fingerprint: str = ""
