"""Train a model: from a folder of normal images to a calibrated model file."""

from __future__ import annotations

import contextlib
import copy
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from draem._version import __version__
from draem.config import DEFAULT_TRACKERS, Recipe, ResolvedRecipe
from draem.datasets.image_cache import Cache, CacheMode
from draem.datasets.layouts.category import Category
from draem.datasets.layouts.registry import as_category
from draem.datasets.split import group_folds
from draem.errors import RecipeError, TrainingInterrupted, shown
from draem.files import explained_output, locked
from draem.imaging.roi import encode_roi
from draem.inspection.calibration import calibrate
from draem.inspection.inspector import make_strategy
from draem.inspection.scoring import network_filter_side
from draem.inspection.torch_runtime import TorchRuntime
from draem.model_card import Calibration, ModelCard, TrainingSet
from draem.model_file import write_model
from draem.networks.devices import explained_memory, resolve_device
from draem.networks.joint import JointModel, check_image_size
from draem.progress import file_progress
from draem.training.checks import (
    check_devices,
    check_out,
    check_pretrained,
    is_helper_process,
)
from draem.training.fabric import make_fabric, quiet_lightning
from draem.training.images import RunImages, read_run_images, resolve_recipe
from draem.training.loop import train_loop
from draem.training.parts import build_parts, run_clock, run_simulator, write_samples
from draem.training.pretrained import FOLDS, PretrainedFit, fit_pretrained
from draem.training.recipe import make_recipe
from draem.training.run_folder import RunFolder, check_new_run, resume_run, start_run
from draem.training.signals import stop_gently
from draem.training.trackers import (
    Tracking,
    check_trackers,
    start_tracking,
)
from draem.training.warm_start import check_warm_start

_NEEDS_LESS_MEMORY = (
    "Choose a smaller batch size, image size or preset, or give --activation-checkpointing"
)
_MAKE_ROOM = "Make room on the disk, then go on with --resume"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished training leaves.

    Attributes:
        model: The model file.
        card: What the model file says of itself, its threshold and figures included.
        recipe: The recipe as it was used.
        steps: Steps trained.
        seconds: Training time, decoding and calibration not counted.
    """

    model: Path
    card: ModelCard
    recipe: ResolvedRecipe
    steps: int
    seconds: float


def train(
    data: str | Path | Category,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    cache: CacheMode = "auto",
    cache_dir: str | Path | None = None,
    trackers: Sequence[str] = DEFAULT_TRACKERS,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model on images of good parts and write it with a calibrated threshold.

    Args:
        data: A category in any layout that `open_dataset` knows, by its path or as it gives it; or
            any folder of normal images.
        out: The run's folder; see the guide for what it receives.
        recipe: From `make_recipe`; the preset `compact` if omitted. A resumed run keeps its
            own, and a recipe given with `resume` must equal it.
        resume: Go on with an unfinished run in `out`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        devices: How many of them, by distributed data parallel; the batch is shared among them.
        cache: Whether decoded images are kept on the disk instead of in memory: `auto` where they
            would fill a quarter of the free memory, `always` or `never`. The model is the same.
        cache_dir: Where; DRAEM_CACHE or the system's place for caches if omitted.
        trackers: Which experiment trackers keep the recipe, figures, pictures and the model:
            `tensorboard` (in the run's folder), `mlflow`, `wandb`. With `csv` alone there is just
            `metrics.csv`, which is always written.
        console: Where progress is shown; nowhere if omitted.

    Returns:
        The model file and what it says of itself. With several devices only the first process
        returns; the others end, so that what follows this call happens once.

    Raises:
        DatasetError: There are no normal images, or some cannot be read; all are listed.
        RunExistsError: The folder holds a run already, or the run to resume is finished.
        RecipeError: A resumed run was started with another recipe.
        ImageSizeError: The image size does not suit the network.
        InputError: The region of interest cannot be used, or a tracker is unknown.
        MissingDependencyError: A tracker is not installed.
        TrackerError: A tracker cannot be reached.
        TrainingInterrupted: Ctrl-C was pressed; the run can be resumed.
        OutOfMemoryError: There is not enough memory for the images or for training.
        OutputError: The run or the cache cannot be written, or another process writes the run.
    """
    helper = is_helper_process()
    if console is None or helper:
        console = Console(quiet=True)
    if recipe is not None and not isinstance(recipe, Recipe):
        raise RecipeError(
            "the recipe is of the wrong kind",
            expected="what draem.make_recipe returns",
            found=type(recipe).__name__,
            hint='Write, for example, draem.make_recipe("compact")',
        )
    check_out(out, data.root if isinstance(data, Category) else data)
    kept = Cache(cache, Path(cache_dir) if cache_dir else None, devices)
    # The first process has the lock, and its helpers write nothing.
    with contextlib.nullcontext() if helper else locked(out):
        return _train(
            as_category(data), out, recipe, resume, device, devices, kept, trackers, console
        )


def _train(
    data: Category,
    out: str | Path,
    recipe: Recipe | None,
    resume: bool,
    device: str,
    devices: int,
    cache: Cache,
    trackers: Sequence[str],
    console: Console,
) -> TrainingResult:
    """See `train`."""
    check_trackers(trackers)
    if resume:
        run, resolved = resume_run(out, recipe)
    else:
        if not is_helper_process():
            check_new_run(out)
        resolved = resolve_recipe(recipe or make_recipe(), data)
    check_image_size(*resolved.network.image_size)
    if resolved.training.init == "warm":
        check_warm_start(resolved.network)
    place = resolve_device(device)
    check_devices(devices, resolved, place)
    check_pretrained(resolved, devices)
    with explained_memory(_NEEDS_LESS_MEMORY):
        images = _read(data, resolved, cache, console)
        if not resume:
            run = _start(out, resolved)
        with _tracking(trackers, run, resolved) as tracking:
            result = _run(run, resolved, images, place, devices, tracking, console)
            tracking.model(result.model, result.card)
        return result


@contextlib.contextmanager
def _tracking(names: Sequence[str], run: RunFolder, recipe: ResolvedRecipe) -> Iterator[Tracking]:
    """What the first process tells its trackers; a run that ends early is closed as such."""
    with quiet_lightning():
        tracking = Tracking() if is_helper_process() else start_tracking(names, run.root, recipe)
    try:
        yield tracking
    except BaseException:
        tracking.stopped()
        raise


def _run(
    run: RunFolder,
    recipe: ResolvedRecipe,
    images: RunImages,
    device: torch.device,
    devices: int,
    tracking: Tracking,
    console: Console,
) -> TrainingResult:
    """Train, calibrate and write the model."""
    if recipe.network.architecture == "pretrained":
        return _run_pretrained(run, recipe, images, device, tracking, console)
    with (
        quiet_lightning(),
        stop_gently(console) as interrupted,
        explained_output(run.root, _MAKE_ROOM),
    ):
        fabric = make_fabric(device, devices, recipe.training.precision)
        parts = build_parts(fabric, run, recipe, images, tracking, console)
        try:
            state = train_loop(parts, interrupted)
        finally:
            parts.progress.stop()
    if not fabric.is_global_zero:
        sys.exit()
    if interrupted.is_set() and parts.clock.reached < 1:
        raise TrainingInterrupted(
            f"training was stopped after step {state.step}",
            path=run.root,
            hint="Go on from there with the same command and --resume",
        )
    network = parts.ema.network
    card = _card(recipe, images, state.figures)
    card = card.replace(calibration=_calibration(network, card, images, device, console))
    card = write_model(run.model, network.state_dict(), card)
    return TrainingResult(run.model, card, recipe, state.step, parts.clock.seconds)


def _run_pretrained(
    run: RunFolder,
    recipe: ResolvedRecipe,
    images: RunImages,
    device: torch.device,
    tracking: Tracking,
    console: Console,
) -> TrainingResult:
    """Fit memories and discriminator, calibrate and write the model."""
    options = recipe.training
    clock = run_clock(recipe, images)
    with (
        stop_gently(console) as interrupted,
        explained_output(run.root, _MAKE_ROOM),
        file_progress(console) as progress,
    ):
        simulator = run_simulator(recipe, images, device)
        write_samples(run, simulator, tracking)
        fitted = fit_pretrained(
            recipe,
            images.training,
            _folds(images, options.seed),
            simulator,
            clock,
            progress,
            interrupted,
            images.region_of_interest,
        )
    card = _card(recipe, images, {})
    if len(images.held_out):
        threshold = _calibration(fitted.network, card, images, device, console)
    else:
        threshold = _cross_fitted_threshold(fitted, images, options.false_reject_rate)
    card = write_model(run.model, fitted.network.state_dict(), card.replace(calibration=threshold))
    return TrainingResult(run.model, card, recipe, fitted.steps, clock.seconds)


def _cross_fitted_threshold(
    fitted: PretrainedFit, images: RunImages, rate: float
) -> Calibration | None:
    """A threshold from the training images; None if they are pictures of a single part."""
    # Tiles and pictures of one part count once, by their highest score.
    groups = np.repeat(images.groups, images.tiles)[fitted.images]
    if len(np.unique(groups)) < 2:
        return None
    return calibrate(fitted.scores.tolist(), rate, groups=groups).replace(cross_fitted=True)


def _card(recipe: ResolvedRecipe, images: RunImages, figures: dict[str, float]) -> ModelCard:
    """What the model file says, but for the threshold."""
    return ModelCard(
        preset=recipe.preset,
        network=recipe.network,
        region_of_interest=None
        if images.region_of_interest is None
        else encode_roi(images.region_of_interest),
        recipe=recipe,
        training_set=TrainingSet(
            images=images.count,
            fingerprint=images.fingerprint,
            held_out=len(images.held_out_groups),
        ),
        versions={
            "draem": __version__,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "numpy": np.__version__,
        },
        figures={name: value for name, value in figures.items() if np.isfinite(value)},
    )


def _calibration(
    network: JointModel,
    card: ModelCard,
    images: RunImages,
    device: torch.device,
    console: Console,
) -> Calibration | None:
    """A threshold from the held-out images; None if none are held out."""
    if card.recipe is None or not len(images.held_out):
        return None
    side = network_filter_side(card.network)
    strategy = make_strategy(card, TorchRuntime(copy.deepcopy(network), device, side))
    held_out = images.whole_held_out()
    count = len(images.held_out_groups)
    scores: list[float] = []
    with file_progress(console) as progress:
        while batch := list(itertools.islice(held_out, strategy.batch_size)):
            scores += [output.anomaly_score for output in strategy.run(batch)]
            progress("Calibrating", len(scores), count)
    rate = card.recipe.training.false_reject_rate
    return calibrate(scores, rate, groups=images.held_out_groups)


def _folds(images: RunImages, seed: int) -> NDArray[np.int64]:
    """The fold of each training image; with less than two groups there is one fold."""
    folds = min(FOLDS, len(np.unique(images.groups)))
    dealt = group_folds(images.groups, folds, seed) if folds > 1 else np.zeros_like(images.groups)
    # Tiles are in the fold of the image that they were cut from.
    return np.repeat(dealt, images.tiles)


def _read(data: Category, recipe: ResolvedRecipe, cache: Cache, console: Console) -> RunImages:
    with file_progress(console) as progress:
        images = read_run_images(data, recipe, progress, cache)
    if images.grouping:
        console.print(shown(images.grouping), highlight=False, markup=False)
    if images.training.folder is not None:
        size = (images.training.nbytes + images.held_out.nbytes) / 1e9
        console.print(
            f"Decoded images are kept in {shown(images.training.folder)} ({size:.2f} GB).",
            highlight=False,
            markup=False,
        )
    return images


def _start(out: str | Path, recipe: ResolvedRecipe) -> RunFolder:
    # Only the first process makes the folder; the others are started when it exists.
    return RunFolder(Path(out)) if is_helper_process() else start_run(out, recipe)
