"""The training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from draem.errors import TrainingError
from draem.networks.model import Draem
from draem.simulation.simulator import SimulatedBatch, Simulator
from draem.training.losses import Losses, LossWeights, draem_losses
from draem.training.schedule import RunClock, learning_rate_factor


class DraemModule(LightningModule):
    """DRAEM's networks with losses and optimiser.

    Args:
        network: The networks.
        clock: How far the run has come, for the learning rate.
        learning_rate: At its highest.
        optimizer: `adam` or `adamw`.
        weight_decay: Of `adamw`.
        schedule: How it falls; see `learning_rate_factor`.
        loss_weights: How the losses are added.
        pictures: Fingerprint of all pictures of the run; a checkpoint of other ones is refused.
    """

    def __init__(
        self,
        network: Draem,
        clock: RunClock,
        *,
        learning_rate: float,
        optimizer: str,
        weight_decay: float,
        schedule: str,
        loss_weights: LossWeights,
        pictures: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self.clock = clock
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.loss_weights = loss_weights
        self.pictures = pictures
        self.last_losses: Losses | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as in the paper, or AdamW, which decays the weights of convolutions alone."""
        if self.optimizer == "adam":
            return torch.optim.Adam(self.network.parameters(), lr=self.learning_rate, fused=True)
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for parameter in self.network.parameters():
            groups[parameter.ndim > 1].append(parameter)
        return torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": self.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
            fused=True,
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate for how far the run has come."""
        factor = learning_rate_factor(self.schedule, self.clock.reached)
        optimizers = self.trainer.optimizers
        for group in optimizers[0].param_groups:
            group["lr"] = self.learning_rate * factor

    def training_step(self, batch: SimulatedBatch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        # Convolutions take this order without rearranging it, which saves a third of a CPU's step.
        images = batch.simulated_images.contiguous(memory_format=torch.channels_last)
        losses = draem_losses(self.network(images), batch, self.loss_weights)
        self.last_losses = Losses(*(loss.detach() for loss in losses))
        return losses.total

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs beside weights and optimiser."""
        checkpoint["draem"] = {
            "seconds": self.clock.seconds,
            "pictures": self.pictures,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again.

        Raises:
            TrainingError: The checkpoint was trained on other images or textures.
        """
        kept = checkpoint["draem"]
        if kept["pictures"] != self.pictures:
            raise TrainingError(
                "the region of interest, images or textures have changed since the run was started",
                hint="Resume with the same ones, or start a new run in another folder",
            )
        self.clock.earlier_seconds = kept["seconds"]


class SimulatedBatches:
    """An endless stream of simulated batches, which Lightning takes as a data loader.

    Args:
        simulator: Makes them, on the training device.
        size: Samples a batch, over all processes.
        first_step: Called when the stream starts: the step to start from.
        rank: Which process this is.
        world: Number of processes.
    """

    def __init__(
        self,
        simulator: Simulator,
        size: int,
        first_step: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._simulator = simulator
        self._size = size
        self._first_step = first_step
        self._rank = rank
        self._world = world

    def __iter__(self) -> Iterator[SimulatedBatch]:
        step = self._first_step()
        while True:
            yield self._simulator.batch(step, self._size, rank=self._rank, world=self._world)
            step += 1
