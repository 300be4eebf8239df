"""The training loop, in the order in which things happen."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from draem.config import TrainingConfig
from draem.errors import TrainingError
from draem.imaging.encode import write_png
from draem.networks.model import Draem
from draem.simulation.simulator import SimulatedBatch, Simulator
from draem.training.checkpoint import read_checkpoint, write_checkpoint
from draem.training.ema import WeightEma
from draem.training.losses import Losses, LossWeights, draem_losses
from draem.training.metrics_log import append_row, keep_rows
from draem.training.progress_bar import TrainingProgress
from draem.training.run_folder import RunFolder
from draem.training.schedule import RunClock, learning_rate_factor
from draem.training.trackers import Tracking
from draem.training.validation import Validation

_VALIDATIONS = 10
_LOG_EVERY = 10


@dataclass(slots=True)
class LoopState:
    """How far a run has come, besides weights and optimiser.

    Attributes:
        step: Steps trained.
        validations: Tenths of the run that have been validated.
        figures: What the last validation measured, by name.
    """

    step: int = 0
    validations: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingParts:
    """What the loop works with.

    Attributes:
        fabric: Launched.
        run: Where checkpoints, figures and pictures go.
        options: The recipe's training options.
        network: The network in training.
        model: The same, as Fabric has set it up; what the loop calls.
        optimizer: As Fabric has set it up.
        ema: Moving average of the network.
        clock: Length of the run.
        simulator: Makes the batches, on the device.
        validation: Held-out images with simulated anomalies.
        loss_weights: How the losses are added.
        images: Fingerprint of all images of the run; a checkpoint of other ones is refused.
        progress: The progress bar, in the first process.
        report: Called with a line of text after each validation.
        tracking: Keeps figures and pictures, in the first process.
    """

    fabric: Fabric
    run: RunFolder
    options: TrainingConfig
    network: Draem
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: WeightEma
    clock: RunClock
    simulator: Simulator
    validation: Validation
    loss_weights: LossWeights
    images: str
    progress: TrainingProgress
    report: Callable[[str], None]
    tracking: Tracking


def train_loop(parts: TrainingParts, interrupted: threading.Event) -> LoopState:
    """Train until the run's length is reached, or until the step after an interruption.

    Raises:
        TrainingError: The loss is no longer finite, or the checkpoint cannot be used.
        OutputError: The run's folder cannot be written to.
    """
    fabric, clock, options = parts.fabric, parts.clock, parts.options
    state = _resume(parts)
    parts.model.train()
    clock.start()
    clock.reached = fabric.broadcast(clock.fraction(state.step))
    parts.progress.start(state.step)
    saved, stopped = time.monotonic(), False
    while clock.reached < 1 and not stopped:
        batch = parts.simulator.batch(
            state.step, options.batch_size, rank=fabric.global_rank, world=fabric.world_size
        )
        rate = options.learning_rate * learning_rate_factor(options.schedule, clock.reached)
        for group in parts.optimizer.param_groups:
            group["lr"] = rate
        losses = train_step(fabric, parts.model, parts.optimizer, batch, parts.loss_weights)
        state.step += 1
        parts.ema.update(state.step)
        # The first process reads the clock and the signals for all, so that all stop together.
        due = time.monotonic() - saved >= options.checkpoint_seconds
        clock.reached, stopped, due = fabric.broadcast(
            (clock.fraction(state.step), interrupted.is_set(), due)
        )
        parts.progress.update(state.step)
        _log(parts, state, losses, rate)
        if due or stopped or clock.reached >= 1:
            _save(parts, state, losses)
            saved = time.monotonic()
    return state


def train_step(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: SimulatedBatch,
    weights: LossWeights,
) -> Losses:
    """One step of the optimiser; returns the batch's losses, detached."""
    # Convolutions take this order without rearranging it, which saves a third of a CPU's step.
    images = batch.simulated_images.contiguous(memory_format=torch.channels_last)
    losses = draem_losses(model(images), batch, weights)
    optimizer.zero_grad()
    fabric.backward(losses.total)
    optimizer.step()
    return Losses(*(loss.detach() for loss in losses))


def _resume(parts: TrainingParts) -> LoopState:
    saved = read_checkpoint(parts.run.checkpoint)
    if saved is None:
        state = LoopState()
    else:
        if saved["images"] != parts.images:
            raise TrainingError(
                "the region of interest, images or textures have changed since the run was started",
                hint="Resume with the same ones, or start a new run in another folder",
            )
        parts.network.load_state_dict(saved["network"])
        parts.optimizer.load_state_dict(saved["optimizer"])
        parts.ema.network.load_state_dict(saved["ema"])
        parts.fabric.strategy.precision.load_state_dict(saved["precision"])
        parts.clock.earlier_seconds = saved["seconds"]
        state = LoopState(saved["step"], saved["validations"], saved["figures"])
    if parts.fabric.is_global_zero:
        keep_rows(parts.run.metrics, state.step)
    return state


def _save(parts: TrainingParts, state: LoopState, losses: Losses) -> None:
    finite_losses(losses, state.step)
    if parts.fabric.is_global_zero:
        saved: dict[str, Any] = {
            "step": state.step,
            "validations": state.validations,
            "figures": state.figures,
            "seconds": parts.clock.seconds,
            "images": parts.images,
            "network": parts.network.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "ema": parts.ema.network.state_dict(),
            "precision": parts.fabric.strategy.precision.state_dict(),
        }
        write_checkpoint(parts.run.checkpoint, saved)
    parts.fabric.barrier()


def _log(parts: TrainingParts, state: LoopState, losses: Losses, rate: float) -> None:
    """Log every tenth step, and validate when a tenth of the run has passed."""
    reached = parts.clock.reached
    validate = reached * _VALIDATIONS >= state.validations + 1 or reached >= 1
    if not (validate or state.step % _LOG_EVERY == 0 or state.step == 1):
        return
    total, l2, ssim, focal = finite_losses(losses, state.step)
    if validate:
        state.validations = int(reached * _VALIDATIONS + 1e-9)
    if not parts.fabric.is_global_zero:
        return
    figures = {"learning_rate": rate, "loss": total, "l2": l2, "ssim": ssim, "focal": focal}
    figures = {"seconds": round(parts.clock.seconds, 2), **figures}
    if validate:
        state.figures = _validate(parts, state.step)
        figures |= state.figures
    append_row(parts.run.metrics, {"step": state.step, **figures})
    parts.tracking.figures(figures, state.step)


def _validate(parts: TrainingParts, step: int) -> dict[str, float]:
    network = parts.ema.network
    figures = parts.validation.measure(network)
    title = f"Held-out good parts with simulated anomalies, after step {step}"
    sheet = parts.validation.picture(network, title)
    path = parts.run.pictures / f"step-{step:07d}.png"
    write_png(path, sheet)
    parts.tracking.picture(path, step)
    parts.report(
        f"{parts.clock.reached:4.0%}  step {step}  loss {figures['val_loss']:.3f}  "
        f"simulated anomalies: image AUROC {figures['val_image_auroc']:.3f}, "
        f"pixel AUROC {figures['val_pixel_auroc']:.3f}, "
        f"pixel AP {figures['val_pixel_ap']:.3f}"
    )
    return figures


def finite_losses(losses: Losses, step: int) -> tuple[float, ...]:
    """Total, L2, SSIM and focal loss as numbers.

    Raises:
        TrainingError: The total is not finite, so the weights cannot be used.
    """
    values = tuple(loss.item() for loss in losses)
    if not math.isfinite(values[0]):
        raise TrainingError(
            f"the loss is no longer a number after step {step}",
            hint="Start a new run with a lower learning rate, or in precision 32",
        )
    return values
