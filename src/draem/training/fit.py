"""Train a model: from a folder of normal images to a calibrated model file."""

from __future__ import annotations

import copy
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from draem._version import __version__
from draem.config import Recipe, ResolvedRecipe
from draem.datasets.cache import Cache, CacheMode
from draem.errors import RecipeError, TrainingInterrupted
from draem.imaging.encode import write_png
from draem.imaging.roi import encode_roi
from draem.inspection.calibration import calibrate
from draem.inspection.interest import limit_output
from draem.inspection.torch_runtime import TorchRuntime
from draem.model_card import Calibration, ModelCard, TrainingSet
from draem.model_file import write_model
from draem.networks.devices import explained_memory, resolve_device
from draem.networks.model import build_draem, check_image_size
from draem.progress import file_progress
from draem.simulation.pictures import to_device
from draem.simulation.preview_sheet import simulation_sheet
from draem.simulation.simulator import Simulator
from draem.simulation.varied import make_simulator
from draem.training.checks import (
    check_devices,
    check_out,
    checked_checkpoint,
    is_helper_process,
    precision_of,
)
from draem.training.ema import WeightEma
from draem.training.images import RunImages, read_run_images, resolve_recipe
from draem.training.keeping import Checkpoints, Records, Stopper
from draem.training.losses import LossWeights
from draem.training.module import DraemModule, SimulatedBatches
from draem.training.progress_bar import TrainingProgress
from draem.training.recipe import make_recipe
from draem.training.run_folder import RunFolder, resume_run, start_run
from draem.training.schedule import make_clock
from draem.training.surroundings import explained, quiet_lightning, stop_gently
from draem.training.tiled import tiled_scores
from draem.training.validation import Validation
from draem.training.warm_start import check_warm_start, load_warm_start

_NEEDS_LESS_MEMORY = (
    "Choose a smaller batch size, image size or preset, or give --activation-checkpointing"
)
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
        recipe: From `make_recipe`; the preset `compact` where left out. A resumed run keeps its
            own, and a recipe given beside `resume` must equal it.
        resume: Go on with an unfinished run in `out`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        devices: How many of them, by distributed data parallel; the batch is shared among them.
        cache: Whether decoded images are kept on the disk instead of in memory: `auto` where they
            would fill a quarter of the free memory, `always` or `never`. The model is the same.
        cache_dir: Where; DRAEM_CACHE or the system's place for caches where left out.
        console: Where progress is shown; nowhere where left out.

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
        return _Training(run, resolved, images, place, devices, console).finish()


class _Training:
    """Wires the parts of one run together."""

    def __init__(
        self,
        run: RunFolder,
        recipe: ResolvedRecipe,
        images: RunImages,
        device: torch.device,
        devices: int,
        console: Console,
    ) -> None:
        options = recipe.training
        self._run, self._recipe, self._images = run, recipe, images
        self._device, self._devices, self._console = device, devices, console
        self._interrupted = threading.Event()
        self._weights = LossWeights(
            options.l2_weight,
            options.ssim_weight,
            options.focal_weight,
            options.focal_gamma,
            ssim_of_mean=options.ssim_of == "mean",
        )
        self._clock = make_clock(
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
        self._module = DraemModule(
            network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            self._clock,
            learning_rate=options.learning_rate,
            optimizer=options.optimizer,
            weight_decay=options.weight_decay,
            schedule=options.schedule,
            loss_weights=self._weights,
            pictures=images.full_fingerprint,
        )
        self._average = WeightEma(network, options.average_decay)
        self._profile = recipe.simulation
        self._roi = images.region_of_interest

    def finish(self) -> TrainingResult:
        trainer = self._trainer()
        place = trainer.strategy.root_device
        simulator = make_simulator(
            to_device(self._images.training, place),
            self._images.textures.to(place),
            self._profile,
            self._recipe.training.seed,
            None if self._roi is None else torch.from_numpy(self._roi),
        )
        if trainer.is_global_zero:
            sheet = simulation_sheet(
                simulator.batch(0, _SHEET_SAMPLES), "Simulated training samples"
            )
            write_png(self._run.pictures / "samples.png", sheet)
        records = self._records(simulator)
        # They need the device that the trainer has chosen.
        trainer.callbacks.extend(self._callbacks(trainer, records))  # type: ignore[attr-defined]
        batches = SimulatedBatches(
            simulator,
            self._recipe.training.batch_size,
            lambda: trainer.global_step,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        checkpoint = checked_checkpoint(self._run.checkpoint)
        with stop_gently(self._interrupted, self._console), explained(self._run.root):
            trainer.fit(self._module, batches, ckpt_path=checkpoint, weights_only=True)
        if not trainer.is_global_zero:
            sys.exit()
        if self._interrupted.is_set() and self._clock.reached < 1:
            raise TrainingInterrupted(
                f"training was stopped after step {trainer.global_step}",
                path=self._run.root,
                hint="Go on from there with the same command and --resume",
            )
        card = write_model(self._run.model, self._average.network.state_dict(), self._card(records))
        return TrainingResult(
            self._run.model, card, self._recipe, trainer.global_step, self._clock.seconds
        )

    def _trainer(self) -> Trainer:
        cuda = self._device.type == "cuda"
        single = [self._device.index or 0] if cuda else 1
        with quiet_lightning():
            return Trainer(
                accelerator="cuda" if cuda else "cpu",
                devices=single if self._devices == 1 else self._devices,
                strategy="auto" if self._devices == 1 else "ddp",
                precision=precision_of(self._recipe.training.precision, self._device),  # type: ignore[arg-type]
                max_epochs=-1,
                # A run that was stopped between its last step and its model makes no further step.
                max_steps=self._clock.total_steps or -1,
                logger=TensorBoardLogger(self._run.root, name="tensorboard", version=""),
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                log_every_n_steps=1,
            )

    def _records(self, simulator: Simulator) -> Records:
        normal = (
            to_device(self._images.held_out_pictures(), simulator.normal_images.device)
            if len(self._images.held_out)
            else simulator.normal_images
        )
        validation = Validation(
            make_simulator(
                normal,
                simulator.textures,
                self._profile,
                simulator.seed,
                simulator.region_of_interest,
            ),
            _VALIDATION_SAMPLES,
            self._weights,
            self._window_smoothing(),
        )
        return Records(self._run, self._clock, validation, self._average, self._say)

    def _window_smoothing(self) -> int:
        """The filter that covers as many pixels of a window as it will of the whole image."""
        whole, trained = self._recipe.network.image_size, self._recipe.trained_size
        return round(self._recipe.network.smoothing * min(whole) / min(trained))

    def _callbacks(self, trainer: Trainer, records: Records) -> list[Callback]:
        callbacks: list[Callback] = [
            self._average,
            Stopper(self._clock, self._interrupted.is_set),
            records,
            Checkpoints(self._run.checkpoint, self._recipe.training.checkpoint_seconds),
        ]
        if trainer.is_global_zero and not self._console.quiet:
            size = self._recipe.training.batch_size
            callbacks.append(TrainingProgress(self._clock, size, self._console))
        return callbacks

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False)

    def _card(self, records: Records) -> ModelCard:
        return ModelCard(
            preset=self._recipe.preset,
            network=self._recipe.network,
            region_of_interest=None if self._roi is None else encode_roi(self._roi),
            recipe=self._recipe,
            calibration=self._calibration(),
            training_set=TrainingSet(
                images=self._images.count, fingerprint=self._images.fingerprint
            ),
            versions={
                "draem": __version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "numpy": np.__version__,
            },
            figures={name: value for name, value in records.figures.items() if np.isfinite(value)},
        )

    def _calibration(self) -> Calibration | None:
        held_out = self._images.held_out
        if not len(held_out):
            return None
        network, smoothing = copy.deepcopy(self._average.network), self._recipe.network.smoothing
        runtime = TorchRuntime(network, self._device, smoothing)
        if self._images.held_out_grids:
            scores = tiled_scores(runtime, self._images, self._recipe, self._console)
        else:
            outputs = (
                limit_output(runtime.run(held_out[start : start + 8]), self._roi, smoothing)
                for start in range(0, len(held_out), 8)
            )
            scores = [float(score) for output in outputs for score in output.anomaly_scores]
        return calibrate(scores, self._recipe.training.false_reject_rate)


def _read(data: str | Path, recipe: ResolvedRecipe, cache: Cache, console: Console) -> RunImages:
    with file_progress(console) as progress:
        images = read_run_images(data, recipe, progress, cache)
    if images.cache is not None:
        console.print(
            f"Decoded images are kept in {images.cache} ({images.cache_bytes / 1e9:.2f} GB).",
            highlight=False,
        )
    return images


def _start(out: str | Path, recipe: ResolvedRecipe) -> RunFolder:
    # Only the first process makes the folder; the others are started when it exists.
    return RunFolder(Path(out)) if is_helper_process() else start_run(out, recipe)
