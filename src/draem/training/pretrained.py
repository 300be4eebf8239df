"""Train `pretrained`: memories of normal features, then a discriminator of distances.

Every distance that something is learned from is cross-fitted: it was measured with a memory that
has not seen the image, nor another picture of the same part. The memories of the finished model
have seen all images.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from draem.config import ResolvedRecipe
from draem.datasets.image_cache import Progress
from draem.datasets.image_source import ImageSource, in_memory
from draem.errors import TrainingInterrupted
from draem.inspection.scoring import network_filter_side
from draem.networks.encoder import CHANNELS, STRIDE
from draem.networks.pretrained import (
    PretrainedDraem,
    View,
    build_pretrained,
    compare,
    joint_features,
    make_memory,
)
from draem.networks.subspaces import Memory
from draem.simulation.factory import over_images
from draem.simulation.simulator import Simulator
from draem.training.evidence import (
    SimulatedDistances,
    cross_fitted_scores,
    describe_normal,
    each_fold,
    fit_discriminator,
)
from draem.training.memory import explained_by_place, fit_memory
from draem.training.schedule import RunClock

FOLDS = 4
MOST_CELLS = 2**20
"""More cells, than of 1,024 images of 256x256, add little to the memories; a random choice of the
images is taken."""
_BATCH = 8

Levels = tuple[Tensor, ...]
"""Feature maps of some images in float16, the finest first."""


@dataclass(frozen=True, slots=True)
class PretrainedFit:
    """What training `pretrained` gives.

    Attributes:
        network: The finished network, on the training device.
        scores: Cross-fitted anomaly score of each training image that was taken.
        images: Their places in the training set.
        steps: Batches of simulated anomalies that the discriminator has learned from.
    """

    network: PretrainedDraem
    scores: NDArray[np.float64]
    images: NDArray[np.int64]
    steps: int


def fit_pretrained(
    recipe: ResolvedRecipe,
    images: ImageSource,
    folds: NDArray[np.int64],
    simulator: Simulator,
    clock: RunClock,
    progress: Progress,
    interrupted: threading.Event,
    region_of_interest: NDArray[np.bool_] | None = None,
) -> PretrainedFit:
    """Train the network.

    Args:
        recipe: Of the architecture `pretrained`.
        images: Normal images of the network's size.
        folds: For each image the fold that it is in; pictures of one part are in the same.
        simulator: Over these images, on the device to train on.
        clock: Length of the training in batches of simulated anomalies, or in minutes.
        progress: Called with (stage, done, in all).
        interrupted: Set by Ctrl-C.
        region_of_interest: (height, width) bool, True where to inspect; None for everything.

    Raises:
        TrainingInterrupted: Ctrl-C was pressed.
    """
    with torch.inference_mode():
        trainer = _Trainer(recipe, simulator, progress, interrupted)
        clock.start()
        chosen = _chosen(len(images), recipe)
        levels = trainer.encode(chosen)
        trainer.measure_lengths(levels)
        memories, normal, shares = trainer.fit_memories(levels, folds[chosen])
        trainer.fit_colours(levels, chosen)
        del levels
        simulated = trainer.simulate(images, chosen, folds[chosen], memories, clock)
        network, by_place = trainer.network, recipe.network.tile is None
        describe_normal(network, normal, by_place=by_place)
        fit_discriminator(network, normal, simulated, shares, recipe.training.seed)
        side = network_filter_side(recipe.network)
        scores = cross_fitted_scores(
            network, normal, folds[chosen], side, region_of_interest, by_place=by_place
        )
    return PretrainedFit(network, scores, chosen, simulated.steps)


def _chosen(count: int, recipe: ResolvedRecipe) -> NDArray[np.int64]:
    """Which images are taken, in rising order."""
    height, width = recipe.network.image_size
    most = max(1, MOST_CELLS * STRIDE**2 // (height * width))
    order = np.random.default_rng(recipe.training.seed).permutation(count)
    return np.sort(order[:most])


class _Trainer:
    """The stages of the training; see `fit_pretrained`."""

    def __init__(
        self,
        recipe: ResolvedRecipe,
        simulator: Simulator,
        progress: Progress,
        interrupted: threading.Event,
    ) -> None:
        self._recipe = recipe
        self._simulator = simulator
        self._device = simulator.normal_images.device
        self._report = progress
        self._interrupted = interrupted
        self._generator = torch.Generator().manual_seed(recipe.training.seed)
        self.network = build_pretrained(recipe.network).to(self._device)
        self.network.use_channels_last()

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far a stage has come.

        Raises:
            TrainingInterrupted: Ctrl-C was pressed.
        """
        if self._interrupted.is_set():
            raise TrainingInterrupted(
                "training was stopped", hint="Start it again with the same command and --resume"
            )
        self._report(what, done, total)

    def _pixels(self, places: NDArray[np.int64]) -> Tensor:
        """(places, 3, height, width) of the images at some places, in [0, 1]."""
        return self._simulator.normal_images.take(torch.from_numpy(places)).float() / 255

    def encode(self, chosen: NDArray[np.int64]) -> Levels:
        """Feature maps of the chosen images."""
        found = []
        for start in range(0, len(chosen), _BATCH):
            self.progress("Encoding images", start, len(chosen))
            found.append(self._encoded(self._pixels(chosen[start : start + _BATCH])))
        self.progress("Encoding images", len(chosen), len(chosen))
        return tuple(torch.cat(level) for level in zip(*found, strict=True))

    def _encoded(self, images: Tensor) -> Levels:
        images = images.contiguous(memory_format=torch.channels_last)
        return tuple(level.half() for level in self.network.encoder(images))

    def _cells(self, levels: Levels, view: View) -> Tensor:
        """(images, height, width, features) at the cells of a view, float32."""
        return joint_features([level.float() for level in levels], self.network.lengths, view)

    def measure_lengths(self, levels: Levels) -> None:
        """Set the usual length of each level's features."""
        for place, level in enumerate(levels):
            self.network.lengths[place] = level.float().std() * CHANNELS[place] ** 0.5

    def fit_memories(
        self, levels: Levels, folds: NDArray[np.int64]
    ) -> tuple[list[list[Memory]], Tensor, Tensor]:
        """Fit the memories of the network, and for each fold those that have not seen it.

        Returns:
            For each fold its memories, the cross-fitted distances of all images, (images, memories,
            height, width), and how far each memory is trusted, (memories,).
        """
        count = len(np.unique(folds))
        memories: list[list[Memory]] = [[] for _ in range(count)]
        total, done = (count + 1) * len(self.network.views), 0
        normal = torch.empty(
            len(folds), len(self.network.views), *levels[0].shape[-2:], device=self._device
        )
        shares = torch.tensor(
            [float(view.share) for view in self.network.views], device=self._device
        )
        for place, view in enumerate(self.network.views):
            parts = zip(*(level.split(_BATCH) for level in levels), strict=True)
            cells = torch.cat([self._cells(part, view).half() for part in parts])
            for number, (inside, others) in enumerate(each_fold(folds)):
                self.progress("Fitting memories", done, total)
                memory = self._fitted(cells[others], view)
                normal[inside, place] = _distances(memory, cells[inside], view)
                memories[number].append(memory)
                done += 1
            self.progress("Fitting memories", done, total)
            self.network.memories[place] = self._fitted(cells, view)
            if view.by_place:
                shares[place] *= _trust_in_place(cells)
            done += 1
        self.progress("Fitting memories", done, total)
        return memories, normal, shares

    def _fitted(self, cells: Tensor, view: View) -> Memory:
        """A new memory of the cells of a view."""
        memory = make_memory(view, self._recipe.network).to(self._device)
        fit_memory(memory, cells, self._generator)
        return memory

    def simulate(
        self,
        images: ImageSource,
        chosen: NDArray[np.int64],
        folds: NDArray[np.int64],
        memories: list[list[Memory]],
        clock: RunClock,
    ) -> SimulatedDistances:
        """Measure images with simulated anomalies, with memories that have not seen them."""
        distances, covered, steps = [], [], 0
        for number, (inside, _) in enumerate(each_fold(folds)):
            places = chosen[inside.numpy()].tolist()
            simulator = over_images(self._simulator, in_memory(images.take(places)))
            goal, first = (number + 1) / len(memories), steps
            while steps == first or clock.fraction(steps) < goal:
                batch = simulator.batch(steps, self._recipe.training.batch_size)
                distances.append(self._measured(batch.simulated_images, memories[number]))
                covered.append(functional.avg_pool2d(batch.anomaly_mask, STRIDE)[:, 0])
                steps += 1
                total = clock.total_steps or round(steps / max(clock.fraction(steps), 1e-6))
                self.progress("Simulating anomalies", min(steps, total), total)
        return SimulatedDistances(torch.cat(distances), torch.cat(covered), steps)

    def _measured(self, images: Tensor, memories: list[Memory]) -> Tensor:
        """(images, memories, height, width) distances of images in [0, 1]."""
        found = []
        # Rounded to what a camera would give.
        for part in ((images * 255).round() / 255).split(_BATCH):
            levels = self._encoded(part)
            views = zip(memories, self.network.views, strict=True)
            distances = [
                _distances(memory, self._cells(levels, view), view) for memory, view in views
            ]
            found.append(torch.stack(distances, 1))
        return torch.cat(found)

    def fit_colours(self, levels: Levels, chosen: NDArray[np.int64]) -> None:
        """Least squares from whitened features to the pixels of their cell, for the picture."""
        size = len(self.network.colours) + 1
        squares = torch.zeros(size, size, device=self._device)
        products = torch.zeros(size, self.network.colours.shape[1], device=self._device)
        for start in range(0, len(chosen), _BATCH):
            part = tuple(level[start : start + _BATCH] for level in levels)
            memory = self.network.memory(0)
            cells = memory.whiten(self._cells(part, self.network.views[0]).flatten(0, 2))
            cells = torch.cat((cells, torch.ones_like(cells[:, :1])), 1)
            pixels = self._pixels(chosen[start : start + _BATCH])
            pixels = functional.pixel_unshuffle(pixels, STRIDE)
            squares += cells.T @ cells
            products += cells.T @ pixels.permute(0, 2, 3, 1).flatten(0, 2)
        ridge = 1e-3 * squares.diagonal().mean() * torch.eye(size, device=self._device)
        solved = torch.linalg.solve(squares + ridge, products)
        self.network.colours.copy_(solved[:-1])
        self.network.colour_bias.copy_(solved[-1])


def _trust_in_place(cells: Tensor) -> float:
    """From 0, parts lie anyhow or there is one image, to 1, all lie alike."""
    # Squared, since a background that is always there explains some of any product.
    return max(0.0, explained_by_place(cells)) ** 2 if len(cells) > 1 else 0.0


def _distances(memory: Memory, cells: Tensor, view: View) -> Tensor:
    """(images, height, width) distances of a view's features, at the finest cells."""
    # One image at a time fits a CPU's cache.
    return torch.cat([compare(memory, image.float(), view)[1] for image in cells.split(1)])
