"""Train a model: from a folder of normal images to a calibrated model file."""

from __future__ import annotations

import copy
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.fabric import Fabric
from rich.console import Console

from draem._version import __version__
from draem.config import Recipe, ResolvedRecipe
from draem.datasets.image_cache import Cache, CacheMode
from draem.datasets.image_source import from_rgb
from draem.errors import RecipeError, TrainingInterrupted
from draem.files import explained_output
from draem.imaging.encode import write_png
from draem.imaging.roi import encode_roi
from draem.inspection.calibration import calibrate
from draem.inspection.inspector import make_strategy
from draem.inspection.scoring import network_filter_side
from draem.inspection.torch_runtime import TorchRuntime
from draem.model_card import Calibration, ModelCard, TrainingSet
from draem.model_file import write_model
from draem.networks.devices import explained_memory, resolve_device
from draem.networks.model import Draem, build_draem, check_image_size
from draem.progress import file_progress
from draem.simulation.factory import make_simulator, over_images, texture_size, with_textures
from draem.simulation.palette import validation_textures
from draem.simulation.preview import simulation_sheet
from draem.simulation.simulator import Simulator
from draem.training.checks import (
    check_devices,
    check_out,
    is_helper_process,
)
from draem.training.ema import WeightEma
from draem.training.fabric import make_fabric, quiet_lightning
from draem.training.images import RunImages, read_run_images, resolve_recipe
from draem.training.loop import TrainingParts, train_loop
from draem.training.losses import LossWeights
from draem.training.optimizer import make_optimizer
from draem.training.progress_bar import TrainingProgress
from draem.training.recipe import make_recipe
from draem.training.run_folder import RunFolder, resume_run, start_run
from draem.training.schedule import make_clock
from draem.training.signals import stop_gently
from draem.training.validation import Validation
from draem.training.warm_start import check_warm_start, load_warm_start

_NEEDS_LESS_MEMORY = (
    "Choose a smaller batch size, image size or preset, or give --activation-checkpointing"
)
_MAKE_ROOM = "Make room on the disk, then go on with --resume"
_VALIDATION_SAMPLES = 16
_SHEET_SAMPLES = 8


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
    data: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    cache: CacheMode = "auto",
    cache_dir: str | Path | None = None,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model on images of good parts and write it with a calibrated threshold.

    Args:
        data: A category in MVTec layout (`train/good`), or any folder of normal images.
        out: The run's folder; see the guide for what it receives.
        recipe: From `make_recipe`; the preset `compact` if omitted. A resumed run keeps its
            own, and a recipe given with `resume` must equal it.
        resume: Go on with an unfinished run in `out`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        devices: How many of them, by distributed data parallel; the batch is shared among them.
        cache: Whether decoded images are kept on the disk instead of in memory: `auto` where they
            would fill a quarter of the free memory, `always` or `never`. The model is the same.
        cache_dir: Where; DRAEM_CACHE or the system's place for caches if omitted.
        console: Where progress is shown; nowhere if omitted.

    Returns:
        The model file and what it says of itself. With several devices only the first process
        returns; the others end, so that what follows this call happens once.

    Raises:
        DatasetError: There are no normal images, or some cannot be read; all are listed.
        RunExistsError: The folder holds a run already, or the run to resume is finished.
        RecipeError: A resumed run was started with another recipe.
        ImageSizeError: The image size does not suit the network.
        InputError: The region of interest cannot be used.
        TrainingInterrupted: Ctrl-C was pressed; the run can be resumed.
        OutOfMemoryError: There is not enough memory for the images or for training.
        OutputError: The run or the cache cannot be written.
    """
    if console is None or is_helper_process():
        console = Console(quiet=True)
    if recipe is not None and not isinstance(recipe, Recipe):
        raise RecipeError(
            "the recipe is of the wrong kind",
            expected="what draem.make_recipe returns",
            found=type(recipe).__name__,
            hint='Write, for example, draem.make_recipe("compact")',
        )
    if resume:
        run, resolved = resume_run(out, recipe)
    else:
        resolved = resolve_recipe(recipe or make_recipe(), data)
    check_image_size(*resolved.network.image_size)
    if resolved.training.init == "warm":
        check_warm_start(resolved.network)
    place = resolve_device(device)
    check_devices(devices, resolved, place)
    check_out(out, data)
    with explained_memory(_NEEDS_LESS_MEMORY):
        kept = Cache(cache, Path(cache_dir) if cache_dir else None, devices)
        images = _read(data, resolved, kept, console)
        if not resume:
            run = _start(out, resolved)
        return _run(run, resolved, images, place, devices, console)


def _run(
    run: RunFolder,
    recipe: ResolvedRecipe,
    images: RunImages,
    device: torch.device,
    devices: int,
    console: Console,
) -> TrainingResult:
    """Train, calibrate and write the model."""
    with (
        quiet_lightning(),
        stop_gently(console) as interrupted,
        explained_output(run.root, _MAKE_ROOM),
    ):
        fabric = make_fabric(device, devices, recipe.training.precision, run.root)
        parts = _build(fabric, run, recipe, images, console)
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
    card = ModelCard(
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
        figures={name: value for name, value in state.figures.items() if np.isfinite(value)},
    )
    card = card.replace(calibration=_calibration(network, card, images, device, console))
    card = write_model(run.model, network.state_dict(), card)
    return TrainingResult(run.model, card, recipe, state.step, parts.clock.seconds)


def _build(
    fabric: Fabric, run: RunFolder, recipe: ResolvedRecipe, images: RunImages, console: Console
) -> TrainingParts:
    """Build the parts of a run on the device of this process."""
    options = recipe.training
    weights = LossWeights(
        options.l2_weight,
        options.ssim_weight,
        options.focal_weight,
        options.focal_gamma,
        ssim_of_mean=options.ssim_of == "mean",
    )
    clock = make_clock(
        len(images.training),
        options.batch_size,
        epochs=options.epochs,
        steps=options.steps,
        minutes=options.minutes,
    )
    network = build_draem(recipe.network, seed=options.seed)
    if options.init == "warm":
        load_warm_start(network)
    network.checkpoint_activations(options.activation_checkpointing)
    network.use_channels_last()
    optimizer = make_optimizer(
        network, options.optimizer, options.learning_rate, options.weight_decay
    )
    model, wrapped_optimizer = fabric.setup(network, optimizer)
    simulator = _simulator(recipe, images, fabric.device)
    if fabric.is_global_zero:
        sheet = simulation_sheet(simulator.batch(0, _SHEET_SAMPLES), "Simulated training samples")
        write_png(run.pictures / "samples.png", sheet)
    return TrainingParts(
        fabric=fabric,
        run=run,
        options=options,
        network=network,
        model=model,
        optimizer=wrapped_optimizer,
        ema=WeightEma(network, options.average_decay),
        clock=clock,
        simulator=simulator,
        validation=_validation(recipe, images, simulator, weights),
        loss_weights=weights,
        images=images.full_fingerprint,
        progress=TrainingProgress(clock, options.batch_size, console),
        report=lambda line: console.print(line, highlight=False),
    )


def _simulator(recipe: ResolvedRecipe, images: RunImages, device: torch.device) -> Simulator:
    roi = images.region_of_interest
    return make_simulator(
        images.training,
        images.textures,
        recipe.simulation,
        recipe.training.seed,
        None if roi is None else torch.from_numpy(roi),
        device,
    )


def _validation(
    recipe: ResolvedRecipe, images: RunImages, simulator: Simulator, weights: LossWeights
) -> Validation:
    """Validate on held-out images; on the training images if none are held out.

    The textures are others than those of training, so that the figures do not count what was
    learned by heart.
    """
    size = texture_size(recipe.simulation.profile, recipe.network.image_size)
    simulator = with_textures(simulator, from_rgb(validation_textures(size)))
    if len(images.held_out):
        simulator = over_images(simulator, images.held_out)
    # The filter covers as many pixels of a window as of the whole image.
    side = network_filter_side(recipe.network)
    return Validation(simulator, _VALIDATION_SAMPLES, weights, side)


def _calibration(
    network: Draem,
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


def _read(data: str | Path, recipe: ResolvedRecipe, cache: Cache, console: Console) -> RunImages:
    with file_progress(console) as progress:
        images = read_run_images(data, recipe, progress, cache)
    if images.grouping:
        console.print(images.grouping, highlight=False)
    if images.training.folder is not None:
        size = (images.training.nbytes + images.held_out.nbytes) / 1e9
        console.print(
            f"Decoded images are kept in {images.training.folder} ({size:.2f} GB).",
            highlight=False,
        )
    return images


def _start(out: str | Path, recipe: ResolvedRecipe) -> RunFolder:
    # Only the first process makes the folder; the others are started when it exists.
    return RunFolder(Path(out)) if is_helper_process() else start_run(out, recipe)
