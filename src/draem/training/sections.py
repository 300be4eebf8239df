"""The recipe's sections: every value that decides a training run, with its range."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Preset = Literal["compact", "full"]
_Share = Annotated[float, Field(ge=0, le=1)]
_Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """One section of a recipe: values that are checked and never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetworkConfig(Section):
    """The networks and their input.

    Attributes:
        reconstructive_width: Channels of the reconstructive sub-network's first stage; 0 for the
            ablation without one.
        discriminative_width: Channels of the discriminative sub-network's first stage.
        shape: `published`, or `compact`: fewer operations, made for CPUs.
        scales: How many scales are looked at, each half as fine as the one before, and averaged;
            1 as published; or `auto`: 2 where the shorter side of the input has at least 256
            pixels and training shows coarse windows, otherwise 1.
        image_size: Height and width of the network's input, multiples of 32; or `auto`: the
            proportions of the training images, their shorter side between 256 and 512.
        interpolation: `bilinear` as published, or `area`, which averages when it shrinks.
        smoothing: Side of the score's mean filter at 256 pixels; 21 as published.
        tile: Cut images into square tiles of this side at their own resolution instead of resizing
            them, a multiple of 32; it then is the image size.
        overlap: Of neighbouring tiles in pixels, at most half of a tile; an eighth where left out.
    """

    reconstructive_width: int = Field(128, ge=0, le=1024)
    discriminative_width: int = Field(64, ge=1, le=1024)
    shape: Literal["published", "compact"] = "published"
    scales: Annotated[int, Field(ge=1, le=4)] | Literal["auto"] = 1
    image_size: tuple[int, int] | Literal["auto"] = (256, 256)
    interpolation: Literal["bilinear", "area"] = "bilinear"
    smoothing: int = Field(21, ge=1, le=127)
    tile: int | None = Field(None, ge=32, multiple_of=32)
    overlap: int | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _tiles_set_the_size(cls, values: Any) -> Any:
        tile = values.get("tile") if isinstance(values, dict) else None
        if not isinstance(tile, int):
            return values
        size = values.get("image_size", "auto")
        if size != "auto" and not isinstance(size, (list, tuple)):
            return values
        if size != "auto" and tuple(size) != (tile, tile):
            raise ValueError(
                f"tiles of {tile} pixels and an image size of {size} contradict each other; "
                "leave one of them out"
            )
        given = {key: value for key, value in values.items() if value is not None}
        return {"overlap": tile // 8, **given, "image_size": (tile, tile)}

    @model_validator(mode="after")
    def _overlap_within_tiles(self) -> NetworkConfig:
        if self.overlap is not None and self.tile is None:
            raise ValueError("an overlap needs `tile`, the side of the tiles that overlap")
        if self.overlap is not None and self.tile is not None and 2 * self.overlap > self.tile:
            raise ValueError(
                f"an overlap of {self.overlap} pixels is more than half of a tile of {self.tile}"
            )
        return self


class SimulationConfig(Section):
    """The simulated anomalies; what is left out comes from the profile.

    Attributes:
        profile: `paper`, `upstream` or `varied`.
        rotation_degrees: Normal images are rotated by up to this, either way.
        rotation_share: Share of the normal images that are rotated.
        clean_share: Share of the samples that stay normal.
        opacity: Range of the weight of the anomaly source.
        threshold: Range of the level at which the noise becomes a mask.
        mask_shape: `perlin`, or `rectangle` as in the paper's ablation.
        operation_count: Different augmentations a texture.
        grey_sources: Make anomaly sources grey where the normal images are grey.
        crop: `varied` alone: side of the windows that are cut from the images, a multiple of 32.
        flips: `varied` alone: half of the windows are mirrored.
        coarse_share: `varied` alone: share of the windows that show twice as much at half the
            resolution; 0 where one scale is looked at.
        zoom: `varied` alone: half of them are enlarged or shrunk by up to this factor.
        shapes: `varied` alone: how often fields of Perlin noise, blobs and lines come.
        fills: `varied` alone: how often each fill comes; see the method page.
        layers: `varied` alone: anomalies a sample at most.
        on_part: `varied` alone: most anomalies lie on the part, where the background is plain.
        textures: Folder of anomaly sources; the built-in ones where left out.
    """

    profile: Literal["paper", "upstream", "varied"] = "upstream"
    rotation_degrees: float | None = Field(None, ge=0, le=180)
    rotation_share: float | None = Field(None, ge=0, le=1)
    clean_share: float | None = Field(None, ge=0, le=1)
    opacity: tuple[_Share, _Share] | None = None
    threshold: tuple[_Share, _Share] | None = None
    mask_shape: Literal["perlin", "rectangle"] | None = None
    operation_count: int | None = Field(None, ge=0, le=7)
    grey_sources: bool | None = None
    crop: int | None = Field(None, ge=32, multiple_of=32)
    flips: bool | None = None
    coarse_share: float | None = Field(None, ge=0, le=1)
    zoom: float | None = Field(None, ge=1, le=4)
    shapes: tuple[_Weight, _Weight, _Weight] | None = None
    fills: tuple[_Weight, _Weight, _Weight, _Weight, _Weight] | None = None
    layers: int | None = Field(None, ge=1, le=4)
    on_part: bool | None = None
    textures: str | None = None

    @model_validator(mode="after")
    def _of_this_profile(self) -> SimulationConfig:
        varied = ("crop", "flips", "coarse_share", "zoom", "shapes", "fills", "layers", "on_part")
        foreign = ("mask_shape",) if self.profile == "varied" else varied
        stated = [key for key in foreign if getattr(self, key) is not None]
        if stated:
            raise ValueError(f"the profile `{self.profile}` has no `{stated[0]}`")
        return self

    @field_validator("opacity", "threshold")
    @classmethod
    def _rising(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits and limits[0] > limits[1]:
            raise ValueError("give the lower end first")
        return limits

    @field_validator("shapes", "fills")
    @classmethod
    def _some_weight(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights and not sum(weights):
            raise ValueError("at least one must be above 0")
        return weights


class TrainingConfig(Section):
    """The optimisation.

    Attributes:
        epochs: Length of the run in passes over the training images.
        steps: Length in steps instead.
        minutes: Length in minutes instead.
        init: `scratch`, or `warm`: from the weights that come with draem, for `compact` networks.
        batch_size: Samples a step, over all devices.
        optimizer: `adam` as published, or `adamw`, whose weight decay spares all but convolutions.
        weight_decay: Of `adamw`.
        learning_rate: At its highest.
        schedule: `paper` (x0.1 at 4/7 and 6/7 of the run), `upstream` (x0.2 at 0.8 and 0.9),
            `cosine` (warm-up over 5 %, then a half cosine to 1 %) or `constant`.
        l2_weight: Weight of the squared error of the reconstruction.
        ssim_weight: Weight of 1 - SSIM of the reconstruction.
        ssim_of: `channels` as published, or `mean`: of the channels, in a third of the time.
        focal_weight: Weight of the focal loss of the mask.
        focal_gamma: Its focusing parameter.
        average_decay: Decay of the moving average of the weights; 0 for none.
        seed: Decides everything random.
        precision: `32`, `bf16`, `16`, or `auto`: bf16 where the device has matrix units for it,
            otherwise 32.
        activation_checkpointing: Train with half the memory but slower: keep fewer activations
            and compute them again. The weights come out the same.
        held_out_share: Share of the normal images kept from training, for validation and
            calibration.
        false_reject_rate: What the threshold promises, as far as the held-out images support it.
        checkpoint_seconds: How often the state to resume from is saved; 0 for after every step.
    """

    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    init: Literal["warm", "scratch"] = "scratch"
    batch_size: int = Field(8, ge=1)
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(0.01, ge=0)
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Literal["paper", "upstream", "cosine", "constant"] = "paper"
    l2_weight: float = Field(1, ge=0)
    ssim_weight: float = Field(1, ge=0)
    ssim_of: Literal["channels", "mean"] = "channels"
    focal_weight: float = Field(1, ge=0)
    focal_gamma: float = Field(2, ge=0)
    average_decay: float = Field(0.999, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    activation_checkpointing: bool = False
    held_out_share: float = Field(0.1, ge=0, lt=1)
    false_reject_rate: float = Field(0.01, gt=0, lt=1)
    checkpoint_seconds: float = Field(60, ge=0)

    @model_validator(mode="after")
    def _one_length(self) -> TrainingConfig:
        if sum(length is not None for length in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("give exactly one of epochs, steps and minutes")
        return self


_Polygon = Annotated[tuple[tuple[_Share, _Share], ...], Field(min_length=3)]


class RoiConfig(Section):
    """The region of interest: the part of the images that is inspected; everything by default.

    Attributes:
        mask: An image file of the images' proportions, white where to inspect.
        polygons: Corners x, y in shares of width and height; what lies in any of them is inspected.
    """

    mask: str | None = None
    polygons: Annotated[tuple[_Polygon, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> RoiConfig:
        if self.mask is not None and self.polygons is not None:
            raise ValueError("give only one of mask and polygons")
        return self


class Recipe(Section):
    """Everything that decides a training run, apart from the images.

    Attributes:
        preset: The name of the preset that the values started from.
        network: The networks and their input.
        simulation: The simulated anomalies.
        training: The optimisation.
        region_of_interest: The part of the images that is inspected.
    """

    preset: Preset
    network: NetworkConfig
    simulation: SimulationConfig
    training: TrainingConfig
    region_of_interest: RoiConfig = RoiConfig()

    @model_validator(mode="after")
    def _tiles_show_everything(self) -> Recipe:
        interest = self.region_of_interest
        if self.network.tile is not None and (interest.mask or interest.polygons):
            raise ValueError(
                "a region of interest cannot be trained with on tiles; leave out one of them, and "
                "give the mask to `draem inspect`"
            )
        return self
