"""Find a model's thresholds from a folder of good images and store them in its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.datasets.decoded import decode_images, decode_tiles, fingerprint_files, plan_grids
from draem.datasets.held_out import split_held_out
from draem.datasets.layout import gather_good_images
from draem.errors import DatasetError, ImageError
from draem.imaging.decode import decode_image
from draem.inspection.calibration import calibrate, check_rates, check_supported, pixel_level
from draem.inspection.inspector import Inspector
from draem.inspection.loading import load, model_path
from draem.modelfile import Calibration, ModelCard, write_card


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """What a calibration found.

    Attributes:
        model: The model file, which holds it now.
        calibration: The thresholds and what they promise.
        failures: Files that could not be read and took no part, each with the reason.
    """

    model: Path
    calibration: Calibration
    failures: tuple[tuple[Path, str], ...]


def calibrate_model(
    model: str | Path,
    good_images: str | Path | Sequence[str | Path],
    *,
    false_reject_rate: float,
    review_rate: float | None = None,
    pixel_false_positive_rate: float | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationResult:
    """Find a model's thresholds from good images and store them in its file.

    Of good parts like these, on average at most the share `false_reject_rate` will score at or
    above the threshold. The calibration that the file held before is replaced as a whole.

    Args:
        model: A model file or the folder of a run.
        good_images: A folder of images of good parts that the model was not trained on, or
            several files and folders.
        false_reject_rate: In (0, 1).
        review_rate: On average at most this share of good parts will score at or above a second
            threshold, and be for a person to look at or rejected; above `false_reject_rate`.
        pixel_false_positive_rate: On average at most the share `false_reject_rate` of good parts
            will have more than this share of their map's pixels at or above a pixel threshold,
            which marks regions then; in [0, 1).
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        progress: Called with (images done, images in all); twice over where the images must
            first be told from those that the model was trained on.

    Raises:
        InputError: A rate is out of range or smaller than so many images support.
        DatasetError: The images cannot be found, none can be read, or the model was trained on
            them.
        ModelFileError: The model file is not one of draem's.
        OutputError: The model file cannot be written.
    """
    check_rates(false_reject_rate, review_rate, pixel_false_positive_rate)
    named = [good_images] if isinstance(good_images, str | Path) else list(good_images)
    paths = gather_good_images(named)
    check_supported(len(paths), false_reject_rate)
    inspector = load(model, device=device)
    _refuse_training_images(inspector.card, paths, progress)
    scores, levels, failures = _measure(inspector, paths, pixel_false_positive_rate, progress)
    if not scores:
        raise DatasetError(
            "none of the good images can be read", path=failures[0][0], found=failures[0][1]
        )
    check_supported(len(scores), false_reject_rate)
    calibration = calibrate(
        scores,
        false_reject_rate,
        review_rate=review_rate,
        pixel_levels=levels,
        pixel_false_positive_rate=pixel_false_positive_rate,
    )
    file = model_path(model)
    write_card(file, inspector.card.model_copy(update={"calibration": calibration}))
    return CalibrationResult(file, calibration, tuple(failures))


def _measure(
    inspector: Inspector,
    paths: Sequence[Path],
    pixel_false_positive_rate: float | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[float], list[float] | None, list[tuple[Path, str]]]:
    """Scores, pixel levels where they are asked for, and the files that cannot be read."""
    scores: list[float] = []
    levels: list[float] | None = None if pixel_false_positive_rate is None else []
    failures: list[tuple[Path, str]] = []
    for done, path in enumerate(paths, 1):
        try:
            found = inspector.inspect(decode_image(path))
        except ImageError as error:
            failures.append((path, error.problem))
        else:
            scores.append(found.anomaly_score)
            if levels is not None and pixel_false_positive_rate is not None:
                levels.append(pixel_level(found.anomaly_map, pixel_false_positive_rate))
        if progress:
            progress(done, len(paths))
    return scores, levels, failures


def _refuse_training_images(
    card: ModelCard, paths: Sequence[Path], progress: Callable[[int, int], None] | None
) -> None:
    """Refuse the very set that the model was trained with, the part held out included.

    Other sets that share images with it are not recognised: the card keeps one hash for all.
    """
    options = card.recipe.get("training")
    if card.training_set is None or not isinstance(options, dict):
        return
    share, seed = options.get("held_out_share", 0), options.get("seed", 0)
    _, kept = split_held_out(len(paths), share, seed)
    # Only a set of the same size is worth decoding.
    if len(kept) != card.training_set.images:
        return
    in_order = sorted(paths, key=lambda path: path.parts)
    trained = [in_order[index] for index in kept]
    size, interpolation, tiling = card.image_size, card.interpolation, card.tiling
    if tiling is None:
        count = len(trained)
    else:
        count = sum(grid.count for grid in plan_grids(trained, size, tiling.overlap))

    def decode(part: Sequence[Path]) -> NDArray[np.uint8]:
        if tiling is None:
            return decode_images(part, size, interpolation)
        return decode_tiles(part, size, tiling.overlap)[0]

    try:
        found = fingerprint_files(trained, decode, (count, *size, 3), progress)
    except DatasetError:
        return  # training would have refused it
    if found == card.training_set.fingerprint:
        raise DatasetError(
            "these are the images that the model was trained with, whose scores say nothing of "
            "other parts",
            path=in_order[0].parent,
            expected="good images that the model was not trained on",
            hint="Take new images, or leave it at the threshold that `draem train` found from the "
            "images it held out",
        )
