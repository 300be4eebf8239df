"""Every option of a training run, written down once: type, default, range, unit and help.

The command line's flags, TOML files, the model card and the guide's table are filled from these
models. A value `auto` depends on the training images; `Recipe.resolve` settles all of them in one
step, and the types of a `ResolvedRecipe` have no `auto`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Annotated, Any, Generic, Literal, Never, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from draem.errors import RecipeError, list_invalid, shortened

SIZE_STEP = 32
"""Both sides of the network's input must be multiples of this many pixels."""
TWO_SCALES_FROM = 256
"""Least shorter side, in pixels, at which `scales = "auto"` looks at a second, coarser scale."""
AUTO_SIDES = (256, 512, 2048)
"""Bounds of `image_size = "auto"` in pixels: shorter side at least and at most, longer at most."""
LARGEST_SIDE = 2**14
LARGEST_AREA = 2**24
"""Bounds of any network's input in pixels: either side, and both multiplied."""
LARGEST_BATCH = 2**16
LARGEST_BATCH_AREA = 2**31
"""Bounds of a training step: samples, and their pixels; far above what machines hold, so that a
slip of the pen ends at once."""
MOST_PIXELS = 2**18
"""Most pixels of `image_size = "auto"` for the architecture `pretrained`, which takes its training
images whole."""

Auto = Literal["auto"]
AutoT = TypeVar("AutoT")
"""`Auto` in a recipe, `Never` in a resolved one."""
_Side = Annotated[int, Field(le=LARGEST_SIDE)]
ImageSize = tuple[_Side, _Side]
ProfileName = Literal["paper", "upstream", "varied"]
PresetName = Literal["pretrained", "compact", "full", "published"]
DEFAULT_PRESET: PresetName = "pretrained"
TRACKERS = ("csv", "tensorboard", "mlflow", "wandb")
DEFAULT_TRACKERS = ("tensorboard",)
_Share = Annotated[float, Field(ge=0, le=1)]
_Weight = Annotated[float, Field(ge=0, le=1e6)]
_Path = Annotated[str, Field(max_length=4096)]


class Options(BaseModel):
    """A group of options, validated and immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **values: Any) -> Self:
        """A copy with other values, which are not validated again."""
        if unknown := values.keys() - type(self).model_fields:
            raise TypeError(f"there are no options {sorted(unknown)}")
        return self.model_copy(update=values)


class NetworkConfig(Options, Generic[AutoT]):
    """The networks and their input."""

    reconstructive_width: int = Field(
        128,
        ge=0,
        le=1024,
        description="Channels of the reconstructive sub-network's first stage; 0 for the ablation "
        "without one.",
    )
    discriminative_width: int = Field(
        64, ge=1, le=1024, description="Channels of the discriminative sub-network's first stage."
    )
    architecture: Literal["published", "compact", "pretrained"] = Field(
        "published",
        description="`published`, `compact` with fewer operations for CPUs, or `pretrained`, which "
        "compares features of a pretrained encoder.",
    )
    subspaces: int = Field(
        512,
        ge=1,
        le=4096,
        description="`pretrained` only: number of flat pieces that a memory of normal features is "
        "made of.",
    )
    subspace_rank: int = Field(
        16, ge=1, le=64, description="`pretrained` only: dimensions of each of these pieces."
    )
    scales: Annotated[int, Field(ge=1, le=4)] | AutoT = Field(
        1,
        description="Number of scales, each half as fine as the one before; their logits are "
        f"averaged. `auto`: 2 if the shorter side has at least {TWO_SCALES_FROM} pixels and "
        "training shows coarse windows, otherwise 1.",
    )
    image_size: ImageSize | AutoT = Field(
        (256, 256),
        description=f"Network input in pixels, height and width, multiples of {SIZE_STEP}; `auto` "
        f"keeps the images' proportions, with a shorter side of {AUTO_SIDES[0]} to "
        f"{AUTO_SIDES[1]}, and for `pretrained` about {MOST_PIXELS} pixels at most.",
    )
    interpolation: Literal["bilinear", "area"] = Field(
        "bilinear",
        description="How images are resized: `bilinear` as published, or `area`, which averages "
        "pixels when it shrinks.",
    )
    smoothing: int = Field(
        21,
        ge=1,
        le=127,
        description="Side of the score's mean filter in pixels at an image size of 256; it grows "
        "with the image size. 21 as published.",
    )
    tile: int | None = Field(
        None,
        ge=SIZE_STEP,
        multiple_of=SIZE_STEP,
        description="Side in pixels of square tiles that large images are cut into instead of "
        "being resized; sets the image size.",
    )
    overlap: int | None = Field(
        None,
        ge=0,
        description="Overlap of neighbouring tiles in pixels, at most half a tile; an eighth of a "
        "tile if omitted.",
    )

    @model_validator(mode="before")
    @classmethod
    def _tile_sets_image_size(cls, values: Any) -> Any:
        tile = values.get("tile") if isinstance(values, dict) else None
        if not isinstance(tile, int):
            return values
        size = values.get("image_size", "auto")
        if size != "auto" and not isinstance(size, (list, tuple)):
            return values
        if size != "auto" and tuple(size) != (tile, tile):
            raise ValueError(
                f"tiles of {tile} pixels and an image size of {tuple(size[:3])} contradict each "
                "other; leave one of them out"
            )
        given = {key: value for key, value in values.items() if value is not None}
        return {"overlap": tile // 8, **given, "image_size": (tile, tile)}

    @model_validator(mode="after")
    def _bounded_area(self) -> Self:
        size = self.image_size
        if isinstance(size, tuple) and size[0] * size[1] > LARGEST_AREA:
            raise ValueError(
                f"an image size of {size[0]}x{size[1]} is more than {LARGEST_AREA} pixels; cut "
                "large images into tiles"
            )
        return self

    @model_validator(mode="after")
    def _overlap_within_tile(self) -> Self:
        if self.overlap is None:
            return self
        if self.tile is None:
            raise ValueError("an overlap needs `tile`, the side of the tiles that overlap")
        if 2 * self.overlap > self.tile:
            raise ValueError(
                f"an overlap of {self.overlap} pixels is more than half of a tile of {self.tile}"
            )
        return self


ResolvedNetworkConfig = NetworkConfig[Never]


def told_size(network: ResolvedNetworkConfig) -> str:
    """How large the networks are, in words.

    Example:
        >>> told_size(ResolvedNetworkConfig())
        '128 reconstructive, 64 discriminative'
    """
    if network.architecture == "pretrained":
        return f"{network.subspaces} subspaces of {network.subspace_rank} dimensions"
    return (
        f"{network.reconstructive_width} reconstructive, "
        f"{network.discriminative_width} discriminative"
    )


_VARIED_ONLY = ("crop", "flips", "coarse_share", "zoom", "shapes", "fills", "layers", "on_part")
_PUBLISHED_ONLY = ("mask_shape",)
_PROFILES: dict[str, dict[str, Any]] = {
    # The paper says neither what fills the corners nor how threshold and clean share are drawn:
    # mirroring adds no edge that the product lacks; the range spans large to tiny masks.
    "paper": {
        "rotation_degrees": 45.0,
        "rotation_share": 1.0,
        "rotation_fill": "mirror",
        "opacity": (0.1, 1.0),
        "threshold": (0.2, 0.7),
        "finest_cells": 32,
        "noise_degrees": 90.0,
        "noise_zero_outside": False,
        "operations": "paper",
        "clean_share": 0.0,
    },
    "upstream": {
        "rotation_degrees": 90.0,
        "rotation_share": 0.3,
        "rotation_fill": "black",
        "opacity": (0.2, 1.0),
        "threshold": (0.5, 0.5),
        "finest_cells": 32,
        "noise_degrees": 90.0,
        "noise_zero_outside": True,
        "operations": "upstream",
        "clean_share": 0.5,
    },
    "varied": {
        "rotation_degrees": 180.0,
        "rotation_share": 0.0,
        "rotation_fill": "mirror",
        "opacity": (0.15, 1.0),
        "threshold": (0.2, 0.6),
        "finest_cells": 16,
        "noise_degrees": 180.0,
        "noise_zero_outside": False,
        "operations": "upstream",
        "clean_share": 0.25,
        "grey_sources": True,
        "crop": 128,
        "coarse_share": "auto",
        "shapes": (0.3, 0.35, 0.35),
        "fills": (0.35, 0.1, 0.15, 0.3, 0.1),
        "layers": 2,
        "on_part": True,
    },
}
"""What each profile states; all else is as the defaults of `SimulationConfig`."""
_COARSE_SHARE = 0.5
"""`coarse_share = "auto"` if several scales are looked at."""


class SimulationConfig(Options, Generic[AutoT]):
    """The simulated anomalies; a value that is omitted is the profile's."""

    profile: ProfileName = Field(
        "upstream",
        description="`paper`, `upstream` (as in the published code) or `varied` (anomalies of many "
        "kinds).",
    )
    rotation_degrees: float = Field(
        0, ge=0, le=180, description="Normal images are rotated by up to this, either way."
    )
    rotation_share: _Share = Field(0, description="Share of the normal images that are rotated.")
    rotation_fill: Literal["black", "mirror"] = Field(
        "mirror", description="What fills the corners of a rotated image."
    )
    clean_share: _Share = Field(0, description="Share of the samples that stay normal.")
    opacity: tuple[_Share, _Share] = Field(
        (0, 1), description="Range of the weight of the anomaly source."
    )
    threshold: tuple[_Share, _Share] = Field(
        (0.5, 0.5), description="Range of the level at which Perlin noise becomes a mask."
    )
    finest_cells: int = Field(
        32, ge=1, le=128, description="Most Perlin lattice cells along a side, a power of two."
    )
    noise_degrees: float = Field(
        90, ge=0, le=180, description="The noise is rotated by up to this, either way."
    )
    noise_zero_outside: bool = Field(
        False, description="Rotated noise is 0 beyond the image, as in the published code."
    )
    mask_shape: Literal["perlin", "rectangle"] = Field(
        "perlin",
        description="`perlin`, or `rectangle` as in the paper's ablation; not for `varied`.",
    )
    operations: Literal["paper", "upstream"] = Field(
        "upstream", description="Set of augmentations: `paper` has seven, `upstream` ten."
    )
    operation_count: int = Field(
        3, ge=0, le=7, description="Different augmentations per anomaly source."
    )
    grey_sources: bool = Field(
        False, description="Make anomaly sources grayscale if the normal images are grayscale."
    )
    crop: int | None = Field(
        None,
        ge=SIZE_STEP,
        multiple_of=SIZE_STEP,
        description="`varied` only: side in pixels of the windows that are cut from the images.",
    )
    flips: bool = Field(False, description="`varied` only: half of the windows are mirrored.")
    coarse_share: _Share | AutoT = Field(
        0.0,
        description="`varied` only: share of the windows that show twice as much at half the "
        f"resolution; `auto`: {_COARSE_SHARE} with several scales, otherwise 0.",
    )
    zoom: float = Field(
        1,
        ge=1,
        le=4,
        description="`varied` only: half of the windows are enlarged or shrunk by up to this "
        "factor.",
    )
    shapes: tuple[_Weight, _Weight, _Weight] = Field(
        (1, 0, 0), description="`varied` only: frequency of Perlin noise, blobs and lines."
    )
    fills: tuple[_Weight, _Weight, _Weight, _Weight, _Weight] = Field(
        (1, 0, 0, 0, 0),
        description="`varied` only: frequency of a texture, another normal image, the same image "
        "some pixels away, another tone, a smear.",
    )
    layers: int = Field(
        1,
        ge=1,
        le=4,
        description="`varied` only: most anomalies per sample, each later one half as likely.",
    )
    on_part: bool = Field(
        False,
        description="`varied` only: most anomalies are on the part, if the background is plain.",
    )
    textures: _Path | None = Field(
        None, description="Folder of anomaly sources; the built-in textures if omitted."
    )
    texture_interpolation: Literal["area", "bilinear"] = Field(
        "area",
        description="How anomaly sources are resized: `area` averages pixels when it shrinks; "
        "`bilinear` as in the published code.",
    )
    with_replacement: bool = Field(
        False,
        description="Draw each sample's normal image independently, as the published code does; "
        "otherwise each image comes once per pass.",
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_profile(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        profile = given.get("profile", "upstream")
        for key in foreign_options(profile):
            if key in given:
                raise ValueError(f"the profile `{profile}` has no `{key}`")
        own = _PROFILES.get(profile, {}) if isinstance(profile, str) else {}
        return {**own, **given}

    @model_serializer(mode="wrap")
    def _without_foreign(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        foreign = foreign_options(self.profile)
        return {key: value for key, value in serialise(self).items() if key not in foreign}

    @field_validator("opacity", "threshold")
    @classmethod
    def _rising(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError("give the lower end first")
        return limits

    @field_validator("shapes", "fills")
    @classmethod
    def _some_weight(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if not sum(weights):
            raise ValueError("at least one must be above 0")
        return weights

    def stated(self) -> dict[str, Any]:
        """The options that the profile has, ready for TOML.

        All of them, since what is the profile's usual value may not be the preset's.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        return {
            key: value for key, value in values.items() if key not in foreign_options(self.profile)
        }

    def resolve(self, scales: int) -> ResolvedSimulationConfig:
        """Settle `auto` for a network that looks at so many scales."""
        values = self.model_dump()
        if self.coarse_share == "auto":
            values["coarse_share"] = _COARSE_SHARE if scales > 1 else 0.0
        return ResolvedSimulationConfig.model_validate(values)


def foreign_options(profile: str) -> tuple[str, ...]:
    """Options of the simulation that a profile does not have."""
    return _PUBLISHED_ONLY if profile == "varied" else _VARIED_ONLY


ResolvedSimulationConfig = SimulationConfig[Never]


class TrainingConfig(Options):
    """The optimisation. Exactly one of epochs, steps and minutes is the length of the run."""

    epochs: int | None = Field(
        None, ge=1, le=10**7, description="Length in passes over the images."
    )
    steps: int | None = Field(None, ge=1, le=10**9, description="Length in training steps.")
    minutes: float | None = Field(None, gt=0, le=10**6, description="Length in minutes.")
    init: Literal["warm", "scratch"] = Field(
        "scratch",
        description="Start from random weights, or `warm` from the weights that come with draem "
        "(`compact` only).",
    )
    batch_size: int = Field(
        8, ge=1, le=LARGEST_BATCH, description="Samples per step, over all devices."
    )
    optimizer: Literal["adam", "adamw"] = Field(
        "adam",
        description="`adam` as published, or `adamw` with weight decay of the convolution weights.",
    )
    weight_decay: float = Field(0.01, ge=0, le=10, description="Weight decay of `adamw`.")
    learning_rate: float = Field(1e-4, gt=0, le=10, description="Highest learning rate.")
    schedule: Literal["paper", "upstream", "cosine", "constant"] = Field(
        "paper",
        description="Learning-rate schedule: `paper` (x0.1 at 4/7 and 6/7 of the run), `upstream` "
        "(x0.2 at 0.8 and 0.9), `cosine` (warm-up over 5 %, then a half cosine to 1 %) or "
        "`constant`.",
    )
    l2_weight: _Weight = Field(1, description="Weight of the squared error of the reconstruction.")
    ssim_weight: _Weight = Field(1, description="Weight of 1 - SSIM of the reconstruction.")
    ssim_of: Literal["channels", "mean"] = Field(
        "channels",
        description="SSIM per channel as published, or of the channels' mean in a third of the "
        "time.",
    )
    focal_weight: _Weight = Field(1, description="Weight of the focal loss of the mask.")
    focal_gamma: float = Field(2, ge=0, le=100, description="Focusing parameter of the focal loss.")
    average_decay: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="Decay of the exponential moving average (EMA) of the weights; 0 for none.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Decides everything random.")
    precision: Literal["auto", "32", "bf16", "16"] = Field(
        "auto",
        description="Arithmetic of the networks; `auto`: bf16 if the device has matrix units for "
        "it, otherwise 32.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="Half the memory, slower: recompute activations in the backward pass. The "
        "weights stay the same.",
    )
    held_out_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the normal images held out of training, for validation and "
        "calibration.",
    )
    group_by: str = Field(
        "auto",
        max_length=1000,
        description="Which images show one part and are held out together: `auto` (by name or "
        "likeness), `image` (each alone), `folder`, or a regular expression for the file name "
        "whose first group, or whole match, names the part. Copies are always together.",
    )
    false_reject_rate: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Largest share of good images that the threshold may reject on average, as "
        "far as the held-out images support it.",
    )
    checkpoint_seconds: float = Field(
        60, ge=0, le=10**7, description="Seconds between checkpoints; 0 for one after every step."
    )

    @field_validator("group_by")
    @classmethod
    def _known_grouping(cls, group_by: str) -> str:
        check_group_by(group_by)
        return group_by

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if sum(length is not None for length in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("give exactly one of epochs, steps and minutes")
        return self


_Polygon = Annotated[tuple[tuple[_Share, _Share], ...], Field(min_length=3)]


class RoiConfig(Options):
    """The region of interest: the part of the images that is inspected; everything by default."""

    mask: _Path | None = Field(
        None, description="Image file of the images' proportions, white where to inspect."
    )
    polygons: Annotated[tuple[_Polygon, ...], Field(min_length=1)] | None = Field(
        None,
        description="Polygons instead of a mask; corners x, y as shares of width and height.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.mask is not None and self.polygons is not None:
            raise ValueError("give only one of mask and polygons")
        return self


SECTIONS: dict[str, type[Options]] = {
    "network": NetworkConfig,
    "simulation": SimulationConfig,
    "training": TrainingConfig,
    "region_of_interest": RoiConfig,
}
"""The sections of a recipe."""


def migrated_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's sections with keys that earlier versions of draem named otherwise."""
    network = values.get("network")
    if not isinstance(network, Mapping) or "shape" not in network:
        return dict(values)
    renamed = {"architecture" if key == "shape" else key: network[key] for key in network}
    return {**values, "network": renamed}


class _RecipeOptions(Options, Generic[AutoT]):
    preset: PresetName = Field(description="Name of the preset that the values started from.")
    network: NetworkConfig[AutoT]
    simulation: SimulationConfig[AutoT]
    training: TrainingConfig
    region_of_interest: RoiConfig = RoiConfig()

    @model_validator(mode="after")
    def _tiles_without_roi(self) -> Self:
        roi = self.region_of_interest
        if self.network.tile is not None and (roi.mask or roi.polygons):
            raise ValueError(
                "a region of interest cannot be trained with on tiles; leave out one of them, and "
                "give the mask to `draem inspect`"
            )
        return self


class ResolvedRecipe(_RecipeOptions[Never]):
    """A recipe without `auto`: what a run was trained with."""

    @model_validator(mode="after")
    def _bounded_batch(self) -> Self:
        height, width = self.trained_size
        batch = self.training.batch_size
        if batch * height * width > LARGEST_BATCH_AREA:
            raise ValueError(
                f"a batch of {batch} samples of {height}x{width} is more than "
                f"{LARGEST_BATCH_AREA} pixels; choose a smaller batch_size"
            )
        return self

    @property
    def trained_size(self) -> ImageSize:
        """Height and width of the training samples: whole images, or the windows of `varied`."""
        height, width = self.network.image_size
        crop = self.simulation.crop
        return (min(crop, height), min(crop, width)) if crop else (height, width)


class Recipe(_RecipeOptions[Auto]):
    """Everything that decides a training run, apart from the images; see `make_recipe`.

    Attributes:
        preset: Name of the preset that the values started from.
        network: The networks and their input.
        simulation: The simulated anomalies.
        training: The optimisation.
        region_of_interest: The part of the images that is inspected.
    """

    def resolve(self, image_sizes: Sequence[ImageSize] = ()) -> ResolvedRecipe:
        """Settle every `auto`.

        The image size keeps the median proportions of the images; the shorter side keeps its
        median length between 256 and 512 pixels.

        Args:
            image_sizes: Height and width of each training image, in pixels; needed only for
                `image_size = "auto"`.

        Raises:
            RecipeError: The batches are larger than any machine holds.
        """
        size, scales = self.network.image_size, self.network.scales
        if size == "auto":
            sizes = image_sizes or [(1, 1)]
            ratio = median(height / width for height, width in sizes)
            shorter = median(map(min, sizes))
            if self.network.architecture == "pretrained":
                shorter = min(shorter, math.sqrt(MOST_PIXELS / max(ratio, 1 / ratio)))
            size = auto_image_size(ratio, shorter)
        if scales == "auto":
            # The second scale needs enough pixels, and training windows that show it.
            enough = min(size) >= TWO_SCALES_FROM and self.simulation.coarse_share != 0
            scales = 2 if enough and self.simulation.profile == "varied" else 1
        network = {**self.network.model_dump(), "image_size": size, "scales": scales}
        simulation = self.simulation.resolve(scales).model_dump()
        values = {**self.model_dump(), "network": network, "simulation": simulation}
        try:
            return ResolvedRecipe.model_validate(values)
        except ValidationError as error:  # only together do they show what is too much
            raise RecipeError(
                "the recipe has values that cannot be used", found=list_invalid(error.errors())
            ) from error


def auto_image_size(ratio: float, shorter: float) -> ImageSize:
    """Height and width in pixels that `image_size = "auto"` means.

    Args:
        ratio: Height of the images divided by their width.
        shorter: Their shorter side in pixels.

    Example:
        >>> auto_image_size(1.0, 900), auto_image_size(2.5, 500), auto_image_size(0.1, 200)
        ((512, 512), (1280, 512), (256, 2048))
    """
    least, most, longest = AUTO_SIDES
    side = SIZE_STEP * round(min(max(shorter, least), most) / SIZE_STEP)
    longer = min(longest, SIZE_STEP * round(side * max(ratio, 1 / ratio) / SIZE_STEP))
    return (longer, side) if ratio >= 1 else (side, longer)


def parse_image_size(text: str) -> tuple[int, int]:
    """Height and width from `256` or `256x320`.

    Raises:
        RecipeError: The text is neither.

    Example:
        >>> parse_image_size("256x320")
        (256, 320)
    """
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        return int(parts[0]), int(parts[-1])
    raise RecipeError(
        "the image size cannot be understood",
        expected="auto, or N or HxW in pixels, such as 256 or 256x320",
        found=shortened(text),
    )


def check_group_by(group_by: str) -> None:
    """Refuse a `group_by` that can mean nothing.

    Raises:
        RecipeError: It is no regular expression; the words `auto`, `image` and `folder` are.
    """
    try:
        re.compile(group_by)
    except (re.error, OverflowError, RecursionError) as error:
        raise RecipeError(
            "`group_by` cannot be understood",
            expected="auto, image, folder or a regular expression",
            found=f"{shortened(group_by)} ({error})",
        ) from error


PAPER, UPSTREAM, VARIED = (
    SimulationConfig[Auto].model_validate({"profile": name}).resolve(scales=2) for name in _PROFILES
)
PROFILES = {config.profile: config for config in (PAPER, UPSTREAM, VARIED)}
"""The simulation profiles by name, as for a network that looks at two scales."""
