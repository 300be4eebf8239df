"""Find a model's thresholds from a folder of good images and store them in its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.config import check_group_by
from draem.datasets.decoding import preparation_of
from draem.datasets.groups import Groups, group_images, told_groups
from draem.datasets.image_source import fingerprint_of
from draem.datasets.likeness import Look, look_at
from draem.datasets.mvtec import gather_good_images
from draem.datasets.split import train_held_out_split
from draem.errors import DatasetError, ImageError, InputError, counted, shown
from draem.files import check_writable
from draem.imaging.decode import decode_image
from draem.inspection.calibration import calibrate, check_rates, pixel_level
from draem.inspection.guarantee import check_supported
from draem.inspection.inspector import Inspector
from draem.inspection.loading import load, model_path
from draem.model_card import Calibration, ModelCard
from draem.model_file import write_card

_NAMED = 3


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """What a calibration found.

    Attributes:
        model: The model file, which holds it now.
        calibration: The thresholds and what they promise.
        failures: Files that could not be read and took no part, each with the reason.
        copies: Files that show the very picture of an earlier one and took no part, each with that
            one: the guarantee needs pictures of different parts.
        grouping: The groups of the images in words; empty if each image is one.
    """

    model: Path
    calibration: Calibration
    failures: tuple[tuple[Path, str], ...]
    copies: tuple[tuple[Path, Path], ...] = ()
    grouping: str = ""


def calibrate_model(
    model: str | Path,
    good_images: str | Path | Sequence[str | Path],
    *,
    false_reject_rate: float,
    review_rate: float | None = None,
    pixel_false_positive_rate: float | None = None,
    group_by: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationResult:
    """Find a model's thresholds from good images and store them in its file.

    Of good parts like these, on average at most the share `false_reject_rate` will score at or
    above the threshold. The calibration that the file held before is replaced as a whole. Of files
    whose decoded pictures are the same, pixel by pixel, one counts. Images of one part are a group,
    which counts once, by its highest score: of new good parts at most that share will have any
    picture at or above the threshold.

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
        group_by: Which images show one part: `auto` (by name or likeness), `image` (each alone),
            `folder`, or a regular expression for the file name; as in a recipe.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        threads: How many CPU threads the model may use; see `load`.
        progress: Called with (images done, images in all); up to three times over where the images
            must first be told from those that the model was trained on.

    Raises:
        InputError: A rate is out of range or smaller than so many images or groups support, or
            the number of threads is not positive.
        RecipeError: `group_by` is no regular expression.
        DatasetError: The images cannot be found, none can be read, they cannot be grouped as
            asked, or the model was trained on them.
        ModelFileError: The model file is not one of draem's.
        OutputError: The model file cannot be written.
    """
    check_rates(false_reject_rate, review_rate, pixel_false_positive_rate)
    check_group_by(group_by)
    named = [good_images] if isinstance(good_images, str | Path) else list(good_images)
    paths = gather_good_images(named, log=True)
    check_supported(len(paths), false_reject_rate)
    inspector = load(model, device=device, threads=threads)
    file = model_path(model, fetch=False)
    check_writable(file.resolve())
    _refuse_training_images(inspector.card, paths, progress)
    measured = _measure(inspector, paths, pixel_false_positive_rate, progress)
    failures, copies = tuple(measured.failures), tuple(measured.copies)
    if not measured.scores:
        raise DatasetError(
            f"of {counted(len(paths), 'good image')} none can be read; "
            f"{failures[0][0]} {failures[0][1]}"
        )
    groups = group_images(measured.paths, measured.looks, group_by)
    _check_supported(groups, false_reject_rate, copies)
    calibration = calibrate(
        measured.scores,
        false_reject_rate,
        groups=groups.ids,
        review_rate=review_rate,
        pixel_levels=None if pixel_false_positive_rate is None else measured.levels,
        pixel_false_positive_rate=pixel_false_positive_rate,
    )
    write_card(file, inspector.card.replace(calibration=calibration))
    return CalibrationResult(file, calibration, failures, copies, told_groups(groups))


def told_copies(copies: Sequence[tuple[Path, Path]]) -> str:
    """How many files are copies, and the first few of them.

    Example:
        >>> told_copies([(Path("b.png"), Path("a.png"))])
        '1 file is a copy of another and does not count: b.png (of a.png)'
    """
    count = len(copies)
    named = ", ".join(f"{shown(path)} (of {shown(first)})" for path, first in copies[:_NAMED])
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    files = "1 file is a copy" if count == 1 else f"{count} files are copies"
    return f"{files} of another and {'does' if count == 1 else 'do'} not count: {named}{more}"


@dataclass(slots=True)
class _Measured:
    """What was found of each picture; the levels only where they were asked for."""

    paths: list[Path] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    copies: list[tuple[Path, Path]] = field(default_factory=list)


def _measure(
    inspector: Inspector,
    paths: Sequence[Path],
    pixel_false_positive_rate: float | None,
    progress: Callable[[int, int], None] | None,
) -> _Measured:
    measured = _Measured()
    seen: dict[str, Path] = {}
    for done, path in enumerate(paths, 1):
        try:
            image = decode_image(path)
        except ImageError as error:
            measured.failures.append((path, error.problem))
        else:
            look = look_at(image)
            first = seen.setdefault(look.digest, path)
            if first is not path:
                measured.copies.append((path, first))
            else:
                found = inspector.inspect(image)
                measured.paths.append(path)
                measured.looks.append(look)
                measured.scores.append(found.anomaly_score)
                if pixel_false_positive_rate is not None:
                    level = pixel_level(found.anomaly_map, pixel_false_positive_rate)
                    measured.levels.append(level)
        if progress:
            progress(done, len(paths))
    return measured


def _check_supported(
    groups: Groups, false_reject_rate: float, copies: Sequence[tuple[Path, Path]]
) -> None:
    images = len(groups.ids)
    try:
        check_supported(images, false_reject_rate, groups.count if groups.count < images else None)
    except InputError as error:
        if not copies:
            raise
        raise InputError(
            error.problem,
            expected=error.expected,
            found=f"{error.found}; {told_copies(copies)}",
            hint=error.hint,
        ) from None


def _refuse_training_images(
    card: ModelCard, paths: Sequence[Path], progress: Callable[[int, int], None] | None
) -> None:
    """Refuse the very set that the model was trained with, the part held out included.

    Other sets that share images with it are not recognised: the card keeps one hash for all.
    """
    in_order = sorted(paths, key=lambda path: path.parts)
    try:
        found = _fingerprint_if_trained(card, in_order, progress)
    except (ImageError, DatasetError):
        return  # training would have refused it
    if card.training_set is not None and found == card.training_set.fingerprint:
        raise DatasetError(
            "these are the images that the model was trained with, whose scores say nothing of "
            "other parts",
            path=in_order[0].parent,
            expected="good images that the model was not trained on",
            hint="Take new images, or leave it at the threshold that `draem train` found from the "
            "images it held out",
        )


def _fingerprint_if_trained(
    card: ModelCard, paths: Sequence[Path], progress: Callable[[int, int], None] | None
) -> str | None:
    """The fingerprint of training on these files; None if their number is that of another set.

    Only a set of the same size is worth decoding: to group it as training does, and for the hash.
    """
    known = card.training_set
    if known is None or card.recipe is None:
        return None
    options, network = card.recipe.training, card.network
    preparation = preparation_of(paths, network.image_size, network.overlap, network.interpolation)
    groups = np.arange(len(paths))  # as in draem 0.1.0, which did not tell the number held out
    if known.held_out is not None:
        if len(paths) != known.images + known.held_out:
            return None
        looks = [
            # Training puts tiles together again, which gives the image itself.
            look_at(image if preparation.grids else preparation.prepare(place, image)[0])
            for place, image in _decoded(paths, range(len(paths)), progress)
        ]
        groups = group_images(paths, looks, options.group_by).ids
    _, kept = train_held_out_split(groups, options.held_out_share, options.seed)
    if len(kept) != known.images:
        return None
    count, (height, width) = sum(preparation.counts[place] for place in kept), preparation.size
    prepared = (preparation.prepare(*decoded) for decoded in _decoded(paths, kept, progress))
    return fingerprint_of((count, height, width, 3), prepared)


def _decoded(
    paths: Sequence[Path],
    places: Sequence[int] | NDArray[np.int64],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for done, place in enumerate(places, start=1):
        yield int(place), decode_image(paths[place])
        if progress is not None:
            progress(done, len(places))
