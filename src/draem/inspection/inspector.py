"""The Inspector: any trained model, any runtime, one way to inspect."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from draem.errors import InputError, MissingDependencyError, ModelFileError
from draem.imaging.resize import resize_image, resize_map
from draem.imaging.tiles import plan_tiles
from draem.inspection.regions import Region, find_regions
from draem.inspection.runtime import Runtime, RuntimeOutput
from draem.inspection.scoring import anomaly_score, smoothing_size
from draem.inspection.tiling import run_tiles, tiled_regions
from draem.modelfile import ModelCard, Tiling

UNCALIBRATED_THRESHOLD = 0.5
"""Where a model has no threshold, regions are drawn at even odds; no decision is taken."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model says of one image.

    Attributes:
        anomaly_score: In [0, 1], the maximum of the mean-filtered anomaly map; never rescaled.
        threshold: Scores at or above it are anomalous; None where the model has none.
        is_anomalous: The decision; None where the model has no threshold.
        regions: Where the defects are, highest peak first, in pixels of the image.
        anomaly_map: (height, width) float32 in [0, 1], at the image's own size.
        reconstruction: (height, width, 3) uint8 RGB at the network's size, or at the image's own
            where the model is tiled; None where the model was exported without it.
    """

    anomaly_score: float
    threshold: float | None
    is_anomalous: bool | None
    regions: tuple[Region, ...]
    anomaly_map: NDArray[np.float32]
    reconstruction: NDArray[np.uint8] | None


class Inspector:
    """Inspects images with a trained model.

    Args:
        card: What the model file says of the model.
        runtime: What runs it.

    Example:
        >>> inspector = draem.load("runs/screw/model.safetensors")  # doctest: +SKIP
        >>> inspector.inspect(image).is_anomalous  # doctest: +SKIP
        False
    """

    def __init__(self, card: ModelCard, runtime: Runtime) -> None:
        self.card = card
        self._runtime = runtime

    @property
    def threshold(self) -> float | None:
        """Scores at or above it are anomalous; None where the model has no threshold."""
        return self.card.calibration.threshold if self.card.calibration else None

    def with_tiles(self, tile: int | None = None, overlap: int | None = None) -> Inspector:
        """The same model, inspecting by tiles at the images' own resolution.

        Threshold and scores' scale stay those of the training. Of a model that was trained on
        resized images they promise nothing for tiles.

        Args:
            tile: Side of the tiles, which must be the network's input; may be left out where the
                model is tiled.
            overlap: Of neighbouring tiles in pixels; the model's own, or an eighth of a tile, where
                left out.

        Raises:
            InputError: The network takes no tiles of this size, or the overlap is out of range.
        """
        size, tiling = self.card.image_size, self.card.tiling
        if tile is None and tiling is None:
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
            overlap = min(size) // 8 if tiling is None else tiling.overlap
        plan_tiles(size, size, overlap)  # refuses an overlap that is out of range
        card = self.card.model_copy(update={"tiling": Tiling(overlap=overlap)})
        return Inspector(card, self._runtime)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an image to the size that it is looked at, the network's unless tiled.

        Args:
            image: (height, width, 3) uint8 RGB.

        Returns:
            (network height, network width, 3) uint8 RGB; the image itself where the model is tiled.

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
        if self.card.tiling is not None:
            return image
        return resize_image(image, self.card.image_size, self.card.interpolation)

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run the model on images that are already of the network's size.

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
        return output

    def look(self, prepared: NDArray[np.uint8]) -> RuntimeOutput:
        """Run the model on one image, by tiles where the model is tiled.

        Args:
            prepared: (height, width, 3) uint8 RGB, from `prepare`.

        Returns:
            A batch of one, of the same height and width.

        Raises:
            InputError: The model gives scores that are not finite.
        """
        if self.card.tiling is None:
            return self.run(prepared[None])
        size, overlap = self.card.image_size, self.card.tiling.overlap
        return run_tiles(self.run, prepared, size, overlap, self._filter_side)

    @property
    def _filter_side(self) -> int:
        return smoothing_size(*self.card.image_size, self.card.smoothing)

    def inspect(self, image: NDArray[np.uint8]) -> Inspection:
        """Inspect one image.

        Args:
            image: (height, width, 3) uint8 RGB of any size.

        Raises:
            InputError: The array is not a uint8 RGB image, or the model's score is not finite.
        """
        output = self.look(self.prepare(image))
        height, width = image.shape[:2]
        return self._inspection(output, 0, (height, width))

    def _inspection(self, output: RuntimeOutput, row: int, size: tuple[int, int]) -> Inspection:
        anomaly_map, score = output.anomaly_maps[row], float(output.anomaly_scores[row])
        threshold = self.threshold
        level = UNCALIBRATED_THRESHOLD if threshold is None else threshold
        regions = (
            _regions(anomaly_map, score, level, size, self.card.smoothing)
            if self.card.tiling is None
            else tiled_regions(anomaly_map, score, level, self._filter_side)
        )
        return Inspection(
            anomaly_score=score,
            threshold=threshold,
            is_anomalous=None if threshold is None else score >= threshold,
            regions=regions,
            anomaly_map=resize_map(anomaly_map, size),
            reconstruction=output.reconstruction(row),
        )


def _regions(
    anomaly_map: NDArray[np.float32],
    score: float,
    level: float,
    size: tuple[int, int],
    smoothing: int,
) -> tuple[Region, ...]:
    """Regions exactly where the score reaches the level.

    A runtime's score differs from NumPy's in the last digits, which must not leave an anomalous
    image without a region or a normal one with some.
    """
    if score < level:
        return ()
    reached = min(level, anomaly_score(anomaly_map, smoothing))
    return find_regions(anomaly_map, reached, size, smoothing)


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


def load(path: str | Path, *, device: str = "auto", threads: int | None = None) -> Inspector:
    """Load a trained model; the file's suffix picks the runtime.

    Args:
        path: A `.safetensors` model file, as `draem train` writes it, or what `draem export`
            makes of it: `.onnx`, `.xml` (OpenVINO) or `.mnn`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`; exported models run on the CPU alone.
        threads: How many CPU threads the model may use; None for one a core. For a
            `.safetensors` model this is torch's setting for the whole process.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's.
        InputError: There is no such device, or the number of threads is not positive.
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
        return Inspector(*getattr(module, home.loader)(path, device, threads))
    except ModuleNotFoundError as error:
        if error.name != home.library:
            raise
        extra = f"'draem[{home.extra}]'" if home.extra else "draem"
        raise MissingDependencyError(
            f"running a {suffix or '.safetensors'} model needs {home.library}",
            hint=f"Install it with: pip install {extra}",
        ) from error


def model_path(path: str | Path) -> Path:
    """The model file that a path means: itself, or the model in a run's folder."""
    path = Path(path)
    inside = path / "model.safetensors"
    return inside if inside.is_file() else path
