"""The Inspector: any trained model, any runtime, one way to inspect."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError, MissingDependencyError, ModelFileError
from draem.imaging.interest import Interest, decode_interest, fit_interest
from draem.imaging.resize import resize_image, resize_map
from draem.inspection.calibration import Decision, decide
from draem.inspection.interest import interest_at, limit_map, limit_output
from draem.inspection.regions import Region, find_regions
from draem.inspection.runtime import Runtime, RuntimeOutput
from draem.inspection.scoring import anomaly_score
from draem.modelfile import ModelCard

UNCALIBRATED_THRESHOLD = 0.5
"""Where a model has no threshold, regions are drawn at even odds; no decision is taken."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model says of one image.

    Attributes:
        anomaly_score: In [0, 1], the maximum of the mean-filtered anomaly map; never rescaled.
        threshold: Scores at or above it are anomalous; None where the model has none.
        is_anomalous: Whether the score reaches the threshold; None where the model has none.
        decision: `reject` where it does, `review` where it reaches a review threshold alone,
            otherwise `pass`; None where the model has no threshold.
        regions: Where the defects are, highest peak first, in pixels of the image; without those
            below the Inspector's smallest area.
        anomaly_map: (height, width) float32 in [0, 1], at the image's own size.
        reconstruction: (height, width, 3) uint8 RGB at the network's size; None where the model was
            exported without it.
    """

    anomaly_score: float
    threshold: float | None
    is_anomalous: bool | None
    decision: Decision | None
    regions: tuple[Region, ...]
    anomaly_map: NDArray[np.float32]
    reconstruction: NDArray[np.uint8] | None


class Inspector:
    """Inspects images with a trained model.

    Args:
        card: What the model file says of the model.
        runtime: What runs it.
        min_area: Regions of fewer pixels of the original image are not listed. The decision does
            not depend on it: that is the score's.
        region_of_interest: Inspect nothing outside it, nor outside the model's own. A mask of the
            images' proportions: an image file, white where to inspect, or (height, width) bool.

    Attributes:
        region_of_interest: (network height, network width) bool, True where to inspect; None for
            everything.

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
        region_of_interest: Interest | None = None,
    ) -> None:
        if min_area < 0:
            raise InputError(
                "the smallest area of a region is out of range",
                expected="a number of pixels, 0 or more",
                found=str(min_area),
            )
        self.card = card
        self.min_area = min_area
        self.region_of_interest = _interest(card, region_of_interest)
        self._runtime = runtime

    @property
    def threshold(self) -> float | None:
        """Scores at or above it are anomalous; None where the model has no threshold."""
        return self.card.calibration.threshold if self.card.calibration else None

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an image to the network's size.

        Args:
            image: (height, width, 3) uint8 RGB.

        Returns:
            (network height, network width, 3) uint8 RGB.

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
        return resize_image(image, self.card.image_size, self.card.interpolation)

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run the model on images that are already of the network's size.

        Outside the region of interest the maps are 0, and do not count in the scores.

        Args:
            images: (batch, network height, network width, 3) uint8 RGB.

        Raises:
            InputError: The model gives scores that are not finite, which no threshold would catch.
        """
        output = self._runtime.run(images)
        if not np.isfinite(output.anomaly_scores).all():
            raise InputError(
                "the model gives a score that is not finite",
                hint="Check that its weights are finite; train it again where they are not",
            )
        return limit_output(output, self.region_of_interest, self.card.smoothing)

    def inspect(self, image: NDArray[np.uint8]) -> Inspection:
        """Inspect one image.

        Args:
            image: (height, width, 3) uint8 RGB of any size.

        Raises:
            InputError: The array is not a uint8 RGB image, or the model's score is not finite.
        """
        output = self.run(self.prepare(image)[None])
        height, width = image.shape[:2]
        return self._inspection(output, 0, (height, width))

    def _inspection(self, output: RuntimeOutput, row: int, size: tuple[int, int]) -> Inspection:
        anomaly_map, score = output.anomaly_maps[row], float(output.anomaly_scores[row])
        threshold, calibration = self.threshold, self.card.calibration
        level = UNCALIBRATED_THRESHOLD if threshold is None else threshold
        regions = _regions(
            anomaly_map,
            score,
            level,
            size,
            self.card.smoothing,
            calibration.pixel_threshold if calibration else None,
        )
        whole_map = resize_map(anomaly_map, size)
        if self.region_of_interest is not None:
            # Resizing spreads the outermost pixels beyond the border.
            whole_map = limit_map(whole_map, interest_at(self.region_of_interest, size))
        return Inspection(
            anomaly_score=score,
            threshold=threshold,
            is_anomalous=None if threshold is None else score >= threshold,
            decision=decide(score, calibration),
            regions=tuple(region for region in regions if region.area >= self.min_area),
            anomaly_map=whole_map,
            reconstruction=output.reconstruction(row),
        )


def _interest(card: ModelCard, asked: Interest | None) -> NDArray[np.bool_] | None:
    """What lies in the model's region of interest and in the one asked for; None for everything."""
    inside = np.ones(card.image_size, bool)
    if card.region_of_interest is not None:
        own = decode_interest(card.region_of_interest)
        if own.shape != inside.shape:
            raise ModelFileError(
                "the model's region of interest has another size than its images",
                expected=str(inside.shape),
                found=str(own.shape),
            )
        inside &= own
    if asked is not None:
        inside &= fit_interest(asked, card.image_size)
    if not inside.any():
        raise InputError(
            "the region of interest lies outside the model's own: there is nothing to inspect",
            hint="Choose one within it, or train a model for this one",
        )
    return None if inside.all() else inside


def _regions(
    anomaly_map: NDArray[np.float32],
    score: float,
    level: float,
    size: tuple[int, int],
    smoothing: int,
    pixel_threshold: float | None,
) -> tuple[Region, ...]:
    """Regions exactly where the score reaches the level.

    A runtime's score differs from NumPy's in the last digits, which must not leave an anomalous
    image without a region or a normal one with some.
    """
    if score < level:
        return ()
    reached = min(level, anomaly_score(anomaly_map, smoothing))
    return find_regions(anomaly_map, reached, size, smoothing, pixel_threshold=pixel_threshold)


class _Home(NamedTuple):
    """Where the runtime of one kind of file is."""

    module: str
    loader: str
    library: str
    extra: str


_RUNTIMES = {
    ".safetensors": _Home("torch_runtime", "load_torch_runtime", "torch", "train"),
    ".onnx": _Home("onnx_runtime", "load_onnx_runtime", "onnxruntime", ""),
    ".xml": _Home("openvino_runtime", "load_openvino_runtime", "openvino", "openvino"),
    ".mnn": _Home("mnn_runtime", "load_mnn_runtime", "MNN", "mnn"),
}


def load(
    path: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    min_area: int = 0,
    region_of_interest: Interest | None = None,
) -> Inspector:
    """Load a trained model; the file's suffix picks the runtime.

    Args:
        path: A `.safetensors` model file, as `draem train` writes it, or what `draem export`
            makes of it: `.onnx`, `.xml` (OpenVINO) or `.mnn`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`; exported models run on the CPU alone.
        threads: How many CPU threads the model may use; None for one a core. For a
            `.safetensors` model this is torch's setting for the whole process.
        min_area: Regions of fewer pixels of the original image are not listed; see `Inspector`.
        region_of_interest: Inspect nothing outside it; see `Inspector`.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's.
        ImageError: The mask of the region of interest cannot be read.
        InputError: There is no such device, the number of threads is not positive, the smallest
            area is negative, or there is nothing to inspect.
        MissingDependencyError: The library that runs such files is not installed.
    """
    path = model_path(path)
    if threads is not None and threads < 1:
        raise InputError("the number of threads must be positive", found=str(threads))
    suffix = path.suffix.lower()
    if suffix not in _RUNTIMES and path.is_file():
        raise ModelFileError(
            "no runtime is known for this kind of file",
            path=path,
            expected="a model file that ends in " + ", ".join(_RUNTIMES),
            hint="`draem train` and `draem export` write them; `draem import-upstream` converts "
            "published checkpoints",
        )
    home = _RUNTIMES.get(suffix, _RUNTIMES[".safetensors"])
    try:
        module = importlib.import_module(f"draem.inspection.{home.module}")
        card, runtime = getattr(module, home.loader)(path, device, threads)
    except ModuleNotFoundError as error:
        if error.name != home.library:
            raise
        extra = f"'draem[{home.extra}]'" if home.extra else "draem"
        raise MissingDependencyError(
            f"running a {suffix or '.safetensors'} model needs {home.library}",
            hint=f"Install it with: pip install {extra}",
        ) from error
    return Inspector(card, runtime, min_area=min_area, region_of_interest=region_of_interest)


def model_path(path: str | Path) -> Path:
    """The model file that a path means: itself, or the model in a run's folder."""
    path = Path(path)
    inside = path / "model.safetensors"
    return inside if inside.is_file() else path
