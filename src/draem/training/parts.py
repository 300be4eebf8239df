"""Build the parts of a run: clock, simulator, network, validation."""

from __future__ import annotations

import torch
from lightning.fabric import Fabric
from rich.console import Console

from draem.config import ResolvedRecipe
from draem.datasets.image_source import from_rgb
from draem.imaging.encode import write_png
from draem.inspection.scoring import network_filter_side
from draem.networks.model import build_draem
from draem.simulation.factory import make_simulator, over_images, texture_size, with_textures
from draem.simulation.palette import validation_textures
from draem.simulation.preview import simulation_sheet
from draem.simulation.simulator import Simulator
from draem.training.ema import WeightEma
from draem.training.images import RunImages
from draem.training.loop import TrainingParts
from draem.training.losses import LossWeights
from draem.training.optimizer import make_optimizer
from draem.training.progress_bar import TrainingProgress
from draem.training.run_folder import RunFolder
from draem.training.schedule import RunClock, make_clock
from draem.training.trackers import Tracking
from draem.training.validation import Validation
from draem.training.warm_start import load_warm_start

_VALIDATION_SAMPLES = 16
_SHEET_SAMPLES = 8


def build_parts(
    fabric: Fabric,
    run: RunFolder,
    recipe: ResolvedRecipe,
    images: RunImages,
    tracking: Tracking,
    console: Console,
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
    clock = run_clock(recipe, images)
    network = build_draem(recipe.network, seed=options.seed)
    if options.init == "warm":
        load_warm_start(network)
    network.checkpoint_activations(options.activation_checkpointing)
    network.use_channels_last()
    optimizer = make_optimizer(
        network, options.optimizer, options.learning_rate, options.weight_decay
    )
    model, wrapped_optimizer = fabric.setup(network, optimizer)
    simulator = run_simulator(recipe, images, fabric.device)
    if fabric.is_global_zero:
        write_samples(run, simulator, tracking)
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
        tracking=tracking,
    )


def run_clock(recipe: ResolvedRecipe, images: RunImages) -> RunClock:
    """The clock of a run of the length that the recipe states."""
    options = recipe.training
    return make_clock(
        len(images.training),
        options.batch_size,
        epochs=options.epochs,
        steps=options.steps,
        minutes=options.minutes,
    )


def run_simulator(recipe: ResolvedRecipe, images: RunImages, device: torch.device) -> Simulator:
    """A simulator over the training images."""
    roi = images.region_of_interest
    return make_simulator(
        images.training,
        images.textures,
        recipe.simulation,
        recipe.training.seed,
        None if roi is None else torch.from_numpy(roi),
        device,
    )


def write_samples(run: RunFolder, simulator: Simulator, tracking: Tracking) -> None:
    """Write a picture of simulated training samples."""
    sheet = simulation_sheet(simulator.batch(0, _SHEET_SAMPLES), "Simulated training samples")
    path = run.pictures / "samples.png"
    write_png(path, sheet)
    tracking.picture(path, 0)


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
