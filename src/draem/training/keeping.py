"""Callbacks that keep what a run has reached: checkpoints, figures, pictures."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from draem.errors import OutputError, TrainingError
from draem.files import replacing, write_text
from draem.imaging.encode import write_png
from draem.training.ema import WeightEma
from draem.training.module import DraemModule
from draem.training.run_folder import RunFolder
from draem.training.schedule import RunClock
from draem.training.validation import Validation

COLUMNS = (
    "step",
    "seconds",
    "learning_rate",
    "loss",
    "l2",
    "ssim",
    "focal",
    "val_loss",
    "val_l2",
    "val_ssim",
    "val_focal",
    "val_image_auroc",
    "val_pixel_auroc",
    "val_pixel_ap",
)
VALIDATIONS = 10
_LOG_EVERY = 10

T = TypeVar("T")


class Stopper(Callback):
    """Ends the run when its length is reached or when the user asks.

    Args:
        clock: How far the run has come.
        interrupted: Tells whether the user asked to stop.
    """

    def __init__(self, clock: RunClock, interrupted: Callable[[], bool]) -> None:
        self._clock = clock
        self._interrupted = interrupted

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock.start()
        self._clock.reached = agreed(trainer, self._clock.fraction(trainer.global_step))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Read the clock once for all processes, and stop them after the same step."""
        reached = self._clock.fraction(trainer.global_step)
        self._clock.reached, interrupted = agreed(trainer, (reached, self._interrupted()))
        if self._clock.reached >= 1 or interrupted:
            trainer.should_stop = True


class Checkpoints(Callback):
    """Keeps the newest state in one file, replaced whole, now and then and at the end.

    Args:
        path: The checkpoint file.
        every_seconds: How often.
    """

    def __init__(self, path: Path, every_seconds: float) -> None:
        self._path = path
        self._every = every_seconds
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Save when it is time."""
        due = trainer.should_stop or time.monotonic() - self._last >= self._every
        if not agreed(trainer, due):
            return
        finite_losses(cast("DraemModule", pl_module), trainer.global_step)
        if trainer.is_global_zero:
            with replacing(self._path) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            # Takes part in the collection of the state; only the first process writes a file.
            trainer.save_checkpoint(self._path)
        self._last = time.monotonic()


class Records(Callback):
    """Writes metrics.csv, TensorBoard logs and picture sheets; validates now and then.

    Args:
        run: The run's folder.
        clock: How far the run has come.
        validation: Held-out images with simulated anomalies.
        average: The moving average, which is what gets validated.
        report: Called with a line of text for the user after each validation.
    """

    def __init__(
        self,
        run: RunFolder,
        clock: RunClock,
        validation: Validation,
        average: WeightEma,
        report: Callable[[str], None],
    ) -> None:
        self._run = run
        self._clock = clock
        self._validation = validation
        self._average = average
        self._report = report
        self._validations = 0
        self.figures: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"validations": self._validations, "figures": self.figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self._validations = state_dict["validations"]
        self.figures = dict(state_dict["figures"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop rows of a resumed run that lie beyond the checkpoint."""
        if trainer.is_global_zero:
            keep_rows(self._run.metrics, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Log, and validate when a tenth of the run has passed since the last time."""
        step = trainer.global_step
        fraction = self._clock.reached
        due = fraction * VALIDATIONS >= self._validations + 1 or fraction >= 1
        if not (due or step % _LOG_EVERY == 0 or step == 1):
            return
        row = self._training_row(trainer, cast("DraemModule", pl_module))
        if due:
            self._validations = int(fraction * VALIDATIONS + 1e-9)
            if trainer.is_global_zero:
                row |= self._validate(step, fraction)
        if trainer.is_global_zero:
            _append_row(self._run.metrics, row)
            for logger in trainer.loggers:
                logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step)

    def _training_row(self, trainer: Trainer, module: DraemModule) -> dict[str, float]:
        total, l2, ssim, focal = finite_losses(module, trainer.global_step)
        return {
            "step": trainer.global_step,
            "seconds": round(self._clock.seconds, 2),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "loss": total,
            "l2": l2,
            "ssim": ssim,
            "focal": focal,
        }

    def _validate(self, step: int, fraction: float) -> dict[str, float]:
        self.figures = self._validation.measure(self._average.network)
        title = f"Held-out good parts with simulated anomalies, after step {step}"
        sheet = self._validation.picture(self._average.network, title)
        write_png(self._run.pictures / f"step-{step:07d}.png", sheet)
        self._report(
            f"{fraction:4.0%}  step {step}  loss {self.figures['val_loss']:.3f}  "
            f"simulated anomalies: image AUROC {self.figures['val_image_auroc']:.3f}, "
            f"pixel AUROC {self.figures['val_pixel_auroc']:.3f}, "
            f"pixel AP {self.figures['val_pixel_ap']:.3f}"
        )
        return self.figures


def agreed(trainer: Trainer, value: T) -> T:
    """The first process's value, for all of them."""
    return value if trainer.world_size == 1 else trainer.strategy.broadcast(value)


def finite_losses(module: DraemModule, step: int) -> tuple[float, ...]:
    """The losses of the last step: total, L2, SSIM and focal.

    Raises:
        TrainingError: The total is not a finite number, so the weights are worth nothing.
    """
    assert module.last_losses is not None
    losses = tuple(loss.item() for loss in module.last_losses)
    if not math.isfinite(losses[0]):
        raise TrainingError(
            f"the loss is no longer a number after step {step}",
            hint="Start a new run with a lower learning rate, or in precision 32",
        )
    return losses


def _append_row(path: Path, row: dict[str, float]) -> None:
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror})", path=path, hint="Make room on the disk"
        ) from error


def keep_rows(path: Path, last_step: int) -> None:
    """Keep whole rows up to a step; a full disk or a crash can leave part of one."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS)]
    kept = [row for row in rows if row[0].isdecimal() and int(row[0]) <= last_step]
    write_text(path, "".join(",".join(row) + "\n" for row in (COLUMNS, *kept)))
