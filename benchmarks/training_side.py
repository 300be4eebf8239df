"""Our side of `training_step.py`: the parts of a training run, put together without Lightning."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any, cast

import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.flop_counter import FlopCounterMode

from draem.networks.devices import multiplies_bf16
from draem.networks.model import DraemOutput, build_draem
from draem.simulation.simulator import SimulatedBatch, Simulator
from draem.simulation.textures import builtin_textures
from draem.simulation.varied import make_simulator
from draem.training.ema import WeightEma
from draem.training.losses import LossWeights, draem_losses
from draem.training.module import DraemModule
from draem.training.recipe import make_recipe
from draem.training.schedule import RunClock
from draem.training.surroundings import quiet_lightning
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
        "lightning": side.under_lightning,
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
    textures = torch.from_numpy(builtin_textures((side, side))).permute(0, 3, 1, 2).contiguous()
    pictures = random_pictures(PICTURES, side)
    return make_simulator(pictures, textures, profile, 0).to(device)


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
        self._module = DraemModule(
            self._network,
            RunClock(10**9, None),
            learning_rate=1e-4,
            optimizer=training.optimizer,
            weight_decay=training.weight_decay,
            schedule="constant",
            loss_weights=self._weights,
        )
        self._optimizer = self._module.configure_optimizers()
        self._average = WeightEma(self._network, training.average_decay)
        self._average.setup(
            cast("Any", None), cast("Any", SimpleNamespace(device=self._device)), ""
        )
        self._average.on_train_start(cast("Any", None), self._module)
        self._run = self._network
        if asked["compile"]:
            self._run = cast("Any", torch.compile(self._network))
            self._module.network = self._run
        if asked["simulate"]:
            self._simulator = make_simulator_for(asked, self._device)
        else:
            self._ready = itertools.cycle(make_batches(asked, self._device))
        self._done = 0

    def step(self) -> None:
        """One step, as Lightning takes it."""
        batch = self._batch()
        with self._precision():
            loss = self._module.training_step(batch, 0)
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
            with self._precision():
                loss = self._module.training_step(batch, 0)
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

    def under_lightning(self) -> Json:
        """Seconds a step when Lightning's trainer makes the same steps."""
        ends = _Ends(self._device)
        quick = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true"}
        with quiet_lightning():
            trainer = Trainer(
                accelerator="cuda" if self._device.type == "cuda" else "cpu",
                devices=1,
                precision=cast("Any", quick[self._precision_name()]),
                max_epochs=-1,
                max_steps=self._asked["steps"] + 1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[self._average, ends],
            )
            trainer.fit(self._module, _Endless(self._batch))
        return {"seconds": [after - before for before, after in itertools.pairwise(ends.times)]}

    def _batch(self) -> SimulatedBatch:
        if not self._asked["simulate"]:
            return next(self._ready)
        self._done += 1
        return self._simulator.batch(self._done, self._asked["batch"])

    def _averaged(self) -> None:
        trainer = cast("Any", SimpleNamespace(global_step=100))
        self._average.on_train_batch_end(trainer, self._module)

    def _precision_name(self) -> str:
        name: str = self._asked["precision"]
        if name == "auto":
            return "bf16" if multiplies_bf16(self._device) else "32"
        return name

    def _precision(self) -> AbstractContextManager[Any]:
        half = self._precision_name() == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=half)


class _Endless:
    def __init__(self, make: Callable[[], SimulatedBatch]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[SimulatedBatch]:
        while True:
            yield self._make()


class _Ends(Callback):
    """When each step ended."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.times: list[float] = []

    def on_train_batch_end(self, *_args: Any, **_kwargs: Any) -> None:
        synchronise(self._device)
        self.times.append(time.perf_counter())


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
