"""Our side of `training_step.py`: the parts of a training run, put together without Fabric."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from draem.datasets.image_source import from_rgb, in_memory
from draem.networks.devices import multiplies_bf16
from draem.networks.joint import DraemOutput
from draem.networks.model import build_draem
from draem.simulation.factory import make_simulator
from draem.simulation.simulator import SimulatedBatch, Simulator
from draem.simulation.textures import builtin_textures
from draem.training.ema import WeightEma
from draem.training.fabric import precision_of, quiet_lightning
from draem.training.loop import train_step
from draem.training.losses import LossWeights, draem_losses
from draem.training.optimizer import make_optimizer
from draem.training.recipe import make_recipe
from peers.step_worker import Json, options, random_pictures, serve, synchronise

READY_MADE = 4
PICTURES = 64


def main() -> None:
    """Build, then serve."""
    asked = options()
    side = _Side(asked)
    more: dict[str, Callable[[], Json]] = {
        "stages": side.stages,
        "arithmetic": side.arithmetic,
        "fabric": side.under_fabric,
    }
    serve(asked, side.step, more)


def make_simulator_for(asked: Json, device: torch.device | str) -> Simulator:
    """The preset's simulator over random pictures; windows of the size asked for."""
    window = asked["window"]
    profile = make_recipe(asked["preset"]).resolve().simulation
    side = window
    if profile.profile == "varied":
        # The preset cuts windows of 128 pixels from images of 256.
        profile, side = profile.replace(crop=window), 2 * window
    textures = from_rgb(builtin_textures((side, side)))
    pictures = in_memory(random_pictures(PICTURES, side).numpy())
    return make_simulator(pictures, textures, profile, 0, device=device)


def make_batches(asked: Json, device: torch.device | str) -> list[SimulatedBatch]:
    """A few batches, made beforehand."""
    simulator = make_simulator_for(asked, device)
    return [simulator.batch(step, asked["batch"]) for step in range(READY_MADE)]


class _Side:
    """Networks, losses, optimiser and moving average as `draem.train` puts them together."""

    def __init__(self, asked: Json) -> None:
        self._asked, self._device = asked, torch.device(asked["device"])
        recipe = make_recipe(asked["preset"]).resolve()
        network, training = recipe.network, recipe.training
        self._network = build_draem(network)
        self._network.checkpoint_activations(asked["checkpointing"])
        self._network.to(self._device, memory_format=torch.channels_last)
        self._weights = LossWeights()
        if not asked["published_losses"]:
            of_mean = training.ssim_of == "mean"
            self._weights = LossWeights(focal_gamma=training.focal_gamma, ssim_of_mean=of_mean)
        self._optimizer = make_optimizer(
            self._network, training.optimizer, 1e-4, training.weight_decay
        )
        self._average = WeightEma(self._network, training.average_decay)
        self._run = self._network
        if asked["compile"]:
            self._run = cast("Any", torch.compile(self._network))
        if asked["simulate"]:
            self._simulator = make_simulator_for(asked, self._device)
        else:
            self._ready = itertools.cycle(make_batches(asked, self._device))
        self._done = 0

    def step(self) -> None:
        """One step, as the training loop makes it."""
        batch = self._batch()
        loss = self._loss(batch)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._averaged()

    def stages(self) -> Json:
        """Seconds of the stages of one step, each waited for."""
        marks = _Marks(self._device)
        batch = self._batch()
        marks.set("simulation")
        images = batch.simulated_images.contiguous(memory_format=torch.channels_last)
        with self._precision():
            output = DraemOutput(*self._run(images))
        marks.set("forward")
        leaves = DraemOutput(*(part.detach().requires_grad_() for part in output))
        draem_losses(leaves, batch, self._weights).total.backward()
        marks.set("losses")
        self._optimizer.zero_grad()
        torch.autograd.backward(list(output), [cast("Any", leaf.grad) for leaf in leaves])
        marks.set("backward")
        self._optimizer.step()
        marks.set("optimiser")
        self._averaged()
        marks.set("average")
        return marks.seconds()

    def arithmetic(self) -> Json:
        """Operations of the networks and losses of one step, and what the device can do."""
        with FlopCounterMode(display=False) as counter:
            batch = self._batch()
            loss = self._loss(batch)
            loss.backward()
        size = 2048 if self._device.type == "cpu" else 8192
        half = self._precision_name() == "bf16"
        square = torch.rand(size, size, device=self._device)
        square = square.bfloat16() if half else square
        return {
            "flop_per_step": counter.get_total_flops(),
            "matmul_flop_per_s": 2
            * size**3
            / _median_seconds(lambda: square @ square, self._device),
            "precision": self._precision_name(),
        }

    def under_fabric(self) -> Json:
        """Seconds per step when Fabric makes the same steps."""
        with quiet_lightning():
            fabric = Fabric(
                accelerator="cuda" if self._device.type == "cuda" else "cpu",
                devices=1,
                precision=precision_of(self._precision_name(), self._device),
            )
            model, optimizer = fabric.setup(self._network, self._optimizer)
            ends = []
            for step in range(self._asked["steps"] + 1):
                train_step(fabric, model, optimizer, self._batch(), self._weights)
                self._average.update(100 + step)
                synchronise(self._device)
                ends.append(time.perf_counter())
        return {"seconds": [after - before for before, after in itertools.pairwise(ends)]}

    def _loss(self, batch: SimulatedBatch) -> torch.Tensor:
        images = batch.simulated_images.contiguous(memory_format=torch.channels_last)
        with self._precision():
            output = DraemOutput(*self._run(images))
        return draem_losses(output, batch, self._weights).total

    def _batch(self) -> SimulatedBatch:
        if not self._asked["simulate"]:
            return next(self._ready)
        self._done += 1
        return self._simulator.batch(self._done, self._asked["batch"])

    def _averaged(self) -> None:
        self._average.update(100)

    def _precision_name(self) -> str:
        name: str = self._asked["precision"]
        if name == "auto":
            return "bf16" if multiplies_bf16(self._device) else "32"
        return name

    def _precision(self) -> AbstractContextManager[Any]:
        half = self._precision_name() == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=half)


class _Marks:
    """Times between marks, by CUDA events on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        synchronise(device)
        self._marks = [("", self._now())]

    def set(self, name: str) -> None:
        self._marks.append((name, self._now()))

    def seconds(self) -> dict[str, float]:
        synchronise(self._device)
        return {
            name: before.elapsed_time(after) / 1000
            if self._device.type == "cuda"
            else after - before
            for (_, before), (name, after) in itertools.pairwise(self._marks)
        }

    def _now(self) -> Any:
        if self._device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 7) -> float:
    taken = []
    for _ in range(repeats + 1):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


if __name__ == "__main__":
    main()
