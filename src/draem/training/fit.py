"""Train a model: from a folder of normal images to a calibrated model file."""

from __future__ import annotations

import copy
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import lightning
import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from draem._version import __version__
from draem.errors import InputError, OutputError, RecipeError, TrainingError, TrainingInterrupted
from draem.imaging.encode import write_png
from draem.inspection.calibration import calibrate
from draem.inspection.torch_runtime import TorchRuntime
from draem.modelfile import Calibration, ModelCard, TrainingSet, write_model
from draem.networks.devices import explained_memory, multiplies_bf16, resolve_device
from draem.networks.model import SIZE_STEP, build_draem, check_image_size
from draem.progress import file_progress
from draem.simulation.sheet import simulation_sheet
from draem.simulation.simulator import Simulator
from draem.training.average import MovingAverage
from draem.training.images import RunImages, read_run_images
from draem.training.keeping import Checkpoints, Records, Stopper
from draem.training.length import make_clock
from draem.training.losses import LossWeights
from draem.training.module import DraemModule, SimulatedBatches
from draem.training.progress import TrainingProgress
from draem.training.recipe import Recipe, make_recipe, simulation_profile
from draem.training.run import RunFolder, resume_run, start_run
from draem.training.validation import Validation

_VALIDATION_SAMPLES = 16
_SHEET_SAMPLES = 8
_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished training leaves.

    Attributes:
        model: The model file.
        card: What the model file says of itself, its threshold and figures included.
        steps: Steps trained.
        seconds: Training time, decoding and calibration not counted.
    """

    model: Path
    card: ModelCard
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
        console: Where progress is shown; nowhere where left out.

    Returns:
        The model file and what it says of itself. With several devices only the first process
        returns; the others end, so that what follows this call happens once.

    Raises:
        DatasetError: There are no normal images, or some cannot be read; all are listed.
        RunExistsError: The folder holds a run already, or the run to resume is finished.
        RecipeError: A resumed run was started with another recipe.
        ImageSizeError: The image size does not suit the network.
        TrainingInterrupted: Ctrl-C was pressed; the run can be resumed.
        OutputError: The run cannot be written.
    """
    if console is None or _is_helper_process():
        console = Console(quiet=True)
    if resume:
        run, recipe = resume_run(out, recipe)
    else:
        recipe = make_recipe() if recipe is None else recipe
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            "the recipe is of the wrong kind",
            expected="what draem.make_recipe returns",
            found=type(recipe).__name__,
            hint='Write, for example, draem.make_recipe("compact")',
        )
    check_image_size(*recipe.network.image_size)
    place = resolve_device(device)
    _check_devices(devices, recipe, place)
    _check_out(out, data)
    with explained_memory("Choose a smaller batch size, image size or preset"):
        images = _read(data, recipe, console)
        if not resume:
            run = _start(out, recipe)
        return _Training(run, recipe, images, place, devices, console).finish()


class _Training:
    """Wires the parts of one run together."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
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
            options.l2_weight, options.ssim_weight, options.focal_weight, options.focal_gamma
        )
        self._clock = make_clock(
            len(images.training),
            options.batch_size,
            epochs=options.epochs,
            steps=options.steps,
            minutes=options.minutes,
        )
        network = build_draem(
            recipe.network.reconstructive_width,
            recipe.network.discriminative_width,
            seed=options.seed,
        )
        self._module = DraemModule(
            network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            self._clock,
            learning_rate=options.learning_rate,
            schedule=options.schedule,
            loss_weights=self._weights,
            pictures=images.full_fingerprint,
        )
        self._average = MovingAverage(network, options.average_decay)
        self._profile = simulation_profile(recipe)

    def finish(self) -> TrainingResult:
        trainer = self._trainer()
        simulator = Simulator(
            self._images.training, self._images.textures, self._profile, self._recipe.training.seed
        ).to(trainer.strategy.root_device)
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
        with _stop_gently(self._interrupted, self._console), _explained(self._run.root):
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
        return TrainingResult(self._run.model, card, trainer.global_step, self._clock.seconds)

    def _trainer(self) -> Trainer:
        cuda = self._device.type == "cuda"
        single = [self._device.index or 0] if cuda else 1
        with _quiet_lightning():
            return Trainer(
                accelerator="cuda" if cuda else "cpu",
                devices=single if self._devices == 1 else self._devices,
                strategy="auto" if self._devices == 1 else "ddp",
                precision=_precision(self._recipe.training.precision, self._device),  # type: ignore[arg-type]
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
        held_out = self._images.held_out
        normal = (
            torch.from_numpy(held_out).permute(0, 3, 1, 2).to(simulator.normal_images.device)
            if len(held_out)
            else simulator.normal_images
        )
        validation = Validation(
            Simulator(normal, simulator.textures, self._profile, simulator.seed),
            _VALIDATION_SAMPLES,
            self._weights,
        )
        return Records(self._run, self._clock, validation, self._average, self._say)

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
        network = self._recipe.network
        return ModelCard(
            preset=self._recipe.preset,
            reconstructive_width=network.reconstructive_width,
            discriminative_width=network.discriminative_width,
            image_size=network.image_size,
            interpolation=network.interpolation,
            recipe=self._recipe.model_dump(mode="json", exclude_none=True),
            calibration=self._calibration(),
            training_set=TrainingSet(
                images=len(self._images.training), fingerprint=self._images.fingerprint
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
        runtime = TorchRuntime(copy.deepcopy(self._average.network), self._device)
        scores = [
            float(score)
            for start in range(0, len(held_out), 8)
            for score in runtime.run(held_out[start : start + 8]).anomaly_scores
        ]
        return calibrate(scores, self._recipe.training.false_reject_rate)


def _read(data: str | Path, recipe: Recipe, console: Console) -> RunImages:
    with file_progress(console) as progress:
        return read_run_images(data, recipe, progress)


def _is_helper_process() -> bool:
    """Whether this is another than the first of several training processes."""
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "RANK"))


def _start(out: str | Path, recipe: Recipe) -> RunFolder:
    # Only the first process makes the folder; the others are started when it exists.
    return RunFolder(Path(out)) if _is_helper_process() else start_run(out, recipe)


def checked_checkpoint(path: Path) -> Path | None:
    """The checkpoint to go on from; None where the run has none yet.

    Raises:
        TrainingError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load raises whatever a damaged file leads it to
        raise TrainingError(
            "the checkpoint is damaged",
            path=path,
            hint="Delete it to start this run from its beginning with --resume",
        ) from error
    return path


def _check_out(out: str | Path, data: str | Path) -> None:
    """Refuse a run's folder whose pictures would be found among the training images."""
    root, run = Path(data).resolve(), Path(out).resolve()
    if run.is_relative_to(root) and not (root / "train" / "good").is_dir():
        raise OutputError(
            "the run would lie among the training images, and its pictures would be taken for them",
            path=out,
            hint="Give a folder outside the data with --out",
        )


def _check_devices(devices: int, recipe: Recipe, device: torch.device) -> None:
    batch_size, precision = recipe.training.batch_size, recipe.training.precision
    if devices < 1 or batch_size % devices:
        raise InputError(
            f"the batch of {batch_size} cannot be shared among {devices} devices",
            expected="a batch size divisible by the number of devices",
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"there are not {devices} GPUs on this machine", found=str(torch.cuda.device_count())
        )
    if devices > 1 and device.index is not None:
        raise InputError(
            f"`{device}` is one device, not {devices}", hint="Give --device cuda with --devices"
        )
    if device.type == "cpu" and precision == "16":
        raise InputError(
            "the CPU does not train in float16", hint="Choose the precision 32, bf16 or auto"
        )
    height, width = recipe.network.image_size
    if batch_size // devices * (height // SIZE_STEP) * (width // SIZE_STEP) < 2:
        raise InputError(
            "one 32x32 image a step is too little for batch normalisation",
            hint="Choose a larger batch size or image size",
        )


def _precision(name: str, device: torch.device) -> str:
    if name != "auto":
        return _PRECISIONS[name]
    return _PRECISIONS["bf16" if multiplies_bf16(device) else "32"]


@contextmanager
def _stop_gently(interrupted: threading.Event, console: Console) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a stop after the current step; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        console.print("Stopping after this step; press Ctrl-C again to stop at once.")

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield
    except SystemExit:
        # Lightning ends the process after these signals; here the caller decides.
        if not interrupted.is_set():
            raise
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        with _quiet_lightning():
            yield
    except OSError as error:
        raise OutputError(
            f"the run cannot be written ({error.strerror or error})",
            path=root,
            hint="Make room on the disk, then go on with --resume",
        ) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice to its developers away from our users."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
