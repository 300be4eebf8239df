"""The Inspector: any trained model, any runtime, one way to inspect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError, ModelFileError
from draem.imaging.roi import RoiLike, decode_roi, fit_roi
from draem.imaging.tiles import plan_tiles
from draem.inspection.calibration import Decision, decide
from draem.inspection.detections import detections
from draem.inspection.prefetch import prefetch
from draem.inspection.regions import Region
from draem.inspection.runtime import Runtime, RuntimeOutput
from draem.inspection.strategy import ImageOutput, Strategy
from draem.inspection.tiled import TiledStrategy
from draem.inspection.whole_image import WholeImageStrategy
from draem.model_card import ModelCard

if TYPE_CHECKING:
    from supervision import Detections

_WHOLE_IMAGE = 1024, 1024
"""At this size a region of interest is kept where the network's input is a tile of the image."""
UNCALIBRATED_THRESHOLD = 0.5
"""If a model has no threshold, regions are drawn at even odds; no decision is taken."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model says of one image.

    Attributes:
        anomaly_score: In [0, 1], the maximum of the mean-filtered anomaly map; never rescaled.
        threshold: Scores at or above it are anomalous; None if the model has none.
        is_anomalous: Whether the score reaches the threshold; None if the model has none.
        decision: `reject` if it does, `review` if it reaches a review threshold alone,
            otherwise `pass`; None if the model has no threshold.
        regions: Where the defects are, or at `review` what reaches the review threshold, highest
            peak first, in pixels of the image; without those below the Inspector's smallest area.
        anomaly_map: (height, width) float32 in [0, 1], at the image's own size.
        reconstruction: (height, width, 3) uint8 RGB at the network's size, or at the image's own
            if the model is tiled; None if the model was exported without it.
    """

    anomaly_score: float
    threshold: float | None
    is_anomalous: bool | None
    decision: Decision | None
    regions: tuple[Region, ...]
    anomaly_map: NDArray[np.float32]
    reconstruction: NDArray[np.uint8] | None

    def to_supervision(self) -> Detections:
        """The regions as detections of the library supervision, to draw, count or track them.

        Returns:
            One detection a region, highest peak first: `xyxy` is its box, `mask` the pixels that
            its contour encloses, `confidence` its peak and `class_id` 0, named `anomaly`.

        Raises:
            MissingDependencyError: supervision is not installed.

        Source:
            https://supervision.roboflow.com/latest/detection/core/
        """
        height, width = self.anomaly_map.shape
        return detections(self.regions, (height, width))


class Inspector:
    """Inspects images with a trained model.

    Args:
        card: What the model file says of the model.
        runtime: What runs it.
        min_area: Regions of fewer pixels of the original image are not listed. The decision does
            not depend on it: that is the score's.
        region_of_interest: Inspect nothing outside it, nor outside the model's own. A mask of the
            images' proportions: an image file, white where to inspect, or (height, width) bool.

    Raises:
        ImageError: The mask cannot be read.
        InputError: The smallest area is negative, or there is nothing to inspect.
        ModelFileError: The model's region of interest is damaged.

    Example:
        >>> inspector = draem.load("runs/screw/model.safetensors")  # doctest: +SKIP
        >>> inspector.inspect(image).is_anomalous  # doctest: +SKIP
        False
    """

    def __init__(
        self,
        card: ModelCard,
        runtime: Runtime,
        *,
        min_area: int = 0,
        region_of_interest: RoiLike | None = None,
    ) -> None:
        if min_area < 0:
            raise InputError(
                "the smallest area of a region is out of range",
                expected="a number of pixels, 0 or more",
                found=str(min_area),
            )
        self.card = card
        self.min_area = min_area
        self._asked_region = region_of_interest
        self._runtime = runtime
        self._strategy = make_strategy(card, runtime, region_of_interest)

    @property
    def region_of_interest(self) -> NDArray[np.bool_] | None:
        """(height, width) bool, True where to inspect; None for everything.

        It has the network's size or, if the model is tiled, 1024x1024 for the whole image.
        """
        return self._strategy.region_of_interest

    @property
    def threshold(self) -> float | None:
        """Scores at or above it are anomalous; None if the model has no threshold."""
        return self.card.calibration.threshold if self.card.calibration else None

    def with_tiles(self, tile: int | None = None, overlap: int | None = None) -> Inspector:
        """The same model, inspecting by tiles at the images' own resolution.

        The threshold stays the same. If the model was trained on resized images, the threshold
        promises nothing for tiles.

        Args:
            tile: Side of the tiles in pixels, which must be the network's input; may be omitted if
                the model is tiled.
            overlap: Overlap of neighbouring tiles in pixels; if omitted, the model's own, or an
                eighth of a tile.

        Raises:
            InputError: The network takes no tiles of this size, or the overlap is out of range.
        """
        network = self.card.network
        size = network.image_size
        if tile is None and network.tile is None:
            raise InputError(
                "this model is not tiled, so its tiles have no overlap",
                hint=f"Add --tile {size[0]} to inspect by tiles" if size[0] == size[1] else None,
            )
        if tile is not None and size != (tile, tile):
            raise InputError(
                "the network takes no tiles of this size",
                expected=f"{size[0]}x{size[1]} (height x width)",
                found=f"{tile}x{tile}",
                hint="Train a model with --tile for tiles of another size",
            )
        if overlap is None:
            overlap = min(size) // 8 if network.overlap is None else network.overlap
        plan_tiles(size, size, overlap)  # refuses an overlap that is out of range
        tiled = network.replace(tile=size[0], overlap=overlap)
        card = self.card.replace(network=tiled)
        return Inspector(
            card,
            self._runtime,
            min_area=self.min_area,
            region_of_interest=self._asked_region,
        )

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an image to the size that it is looked at, the network's unless tiled.

        Args:
            image: (height, width, 3) uint8 RGB.

        Returns:
            (network height, network width, 3) uint8 RGB; the image itself if the model is tiled.

        Raises:
            InputError: The array is not a uint8 RGB image.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            found = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(
                "the image has the wrong type",
                expected="a NumPy array of uint8, (height, width, 3), RGB",
                found=str(found),
            )
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(
                "the image has the wrong shape",
                expected="(height, width, 3), RGB",
                found=str(image.shape),
            )
        return self._strategy.prepare(image)

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run the model on a batch of images that have the network's size already.

        Outside the region of interest the maps are 0, and do not count in the scores.

        Args:
            images: (batch, network height, network width, 3) uint8 RGB.

        Raises:
            InputError: The array is no batch of such images, or the model gives scores that are not
                finite, which no threshold would catch.
        """
        expected = (*self.card.network.image_size, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise InputError(
                "the network takes no such batch",
                expected=f"uint8, (batch, {', '.join(map(str, expected))})",
                found=f"{images.dtype}, {images.shape}",
                hint="Use `inspect` for images of any size, or `prepare` to bring them to this one",
            )
        return self._strategy.run_batch(images)

    @property
    def batch_size(self) -> int:
        """Prepared images that are best given to the model at once."""
        return self._strategy.batch_size

    def outputs(self, prepared: Sequence[NDArray[np.uint8]]) -> Iterator[ImageOutput]:
        """Run the model on prepared images, in batches, in their order.

        Args:
            prepared: (height, width, 3) uint8 RGB each, from `prepare`.

        Raises:
            InputError: The model gives a score that is not finite.
        """
        return self._strategy.run(prepared)

    @overload
    def inspect(self, images: NDArray[np.uint8]) -> Inspection: ...

    @overload
    def inspect(self, images: Sequence[NDArray[np.uint8]]) -> list[Inspection]: ...

    @overload
    def inspect(self, images: Iterator[NDArray[np.uint8]]) -> Iterator[Inspection]: ...

    def inspect(
        self,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | Iterator[NDArray[np.uint8]],
    ) -> Inspection | list[Inspection] | Iterator[Inspection]:
        """Inspect one image, a batch of them, or as many as an iterator yields.

        Args:
            images: (height, width, 3) uint8 RGB of any size; or a batch, which is a sequence of
                such images or one array of (batch, height, width, 3); or an iterator of images,
                which runs in another thread, so that decoding and inference overlap.

        Returns:
            One inspection; a list of them; or an iterator of them, which holds no more than a few.

        Raises:
            InputError: An array is not a uint8 RGB image, or the model's score is not finite.
        """
        if isinstance(images, Iterator):
            return self._inspect_each(images)
        if isinstance(images, Sequence) or getattr(images, "ndim", 0) == 4:
            return self.inspect_prepared(images, [self.prepare(image) for image in images])
        return self.inspect_prepared([images], [self.prepare(images)])[0]

    def _inspect_each(self, images: Iterator[NDArray[np.uint8]]) -> Iterator[Inspection]:
        # One at a time: a camera's next image may come late.
        for image, prepared in prefetch((image, self.prepare(image)) for image in images):
            yield self.inspect_prepared([image], [prepared])[0]

    def inspect_prepared(
        self,
        images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        prepared: Sequence[NDArray[np.uint8]],
    ) -> list[Inspection]:
        """Inspect images that were prepared before, in another thread perhaps.

        Args:
            images: (height, width, 3) uint8 RGB each, of any size.
            prepared: What `prepare` made of each.

        Raises:
            InputError: The model gives a score that is not finite.
        """
        outputs = self._strategy.run(prepared)
        return [
            self._inspection(output, (image.shape[0], image.shape[1]))
            for image, output in zip(images, outputs, strict=True)
        ]

    def _inspection(self, output: ImageOutput, size: tuple[int, int]) -> Inspection:
        score, calibration = output.anomaly_score, self.card.calibration
        threshold, decision = self.threshold, decide(score, calibration)
        level = UNCALIBRATED_THRESHOLD if threshold is None else threshold
        if decision == "review" and calibration and calibration.review_threshold is not None:
            level = calibration.review_threshold
        pixel_threshold = calibration.pixel_threshold if calibration else None
        regions = self._strategy.regions(output, level, size, pixel_threshold)
        return Inspection(
            anomaly_score=score,
            threshold=threshold,
            is_anomalous=None if threshold is None else score >= threshold,
            decision=decision,
            regions=tuple(region for region in regions if region.area >= self.min_area),
            anomaly_map=self._strategy.map_at(output.anomaly_map, size),
            reconstruction=output.reconstruction,
        )


def make_strategy(card: ModelCard, runtime: Runtime, asked: RoiLike | None = None) -> Strategy:
    """How a model looks at images: whole, or by tiles.

    Args:
        card: What the model file says of the model.
        runtime: What runs it.
        asked: A region of interest besides the model's own.

    Raises:
        ImageError: The mask cannot be read.
        InputError: There is nothing to inspect.
        ModelFileError: The model's region of interest is damaged.
    """
    network = card.network
    if network.tile is None:
        region = _region_of_interest(card, asked, network.image_size)
        return WholeImageStrategy(runtime, network, region)
    return TiledStrategy(runtime, network, _region_of_interest(card, asked, _WHOLE_IMAGE))


def _region_of_interest(
    card: ModelCard, asked: RoiLike | None, size: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """What is in both the model's region of interest and the one asked for; None for everything."""
    inside = np.ones(size, bool)
    if card.region_of_interest is not None:
        own = decode_roi(card.region_of_interest)
        if own.shape != card.network.image_size:
            raise ModelFileError(
                "the model's region of interest has another size than its images",
                expected=str(card.network.image_size),
                found=str(own.shape),
            )
        inside &= fit_roi(own, inside.shape)
    if asked is not None:
        inside &= fit_roi(asked, inside.shape)
    if not inside.any():
        raise InputError(
            "the region of interest is outside the model's own: there is nothing to inspect",
            hint="Choose one within it, or train a model for this one",
        )
    return None if inside.all() else inside
