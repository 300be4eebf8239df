"""Seeded random parameters: functions of whole numbers, drawn on the CPU for every device alike."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_CHOICES = 1
"""A stream of its own, so that all other parameters of a batch stay the same."""


def seeded_generator(*keys: int) -> torch.Generator:
    """A CPU generator whose stream is a function of whole numbers, negative ones included."""
    words = [key % 2**64 for key in keys]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def uniform(count: int, generator: torch.Generator, low: float, high: float) -> Tensor:
    """Uniform numbers in [low, high), (count,)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def log_uniform(count: int, generator: torch.Generator, low: float, high: float) -> Tensor:
    """Numbers in [low, high) that are uniform over orders of magnitude, (count,)."""
    return torch.exp(uniform(count, generator, math.log(low), math.log(high)))


def choose(weights: tuple[float, ...], count: int, generator: torch.Generator) -> Tensor:
    """Indices into the weights, each as often as its weight says, (count,) int64."""
    shares = torch.tensor(weights, dtype=torch.float32)
    return torch.multinomial(shares, count, True, generator=generator)


def image_order(
    images: int, seed: int, step: int, size: int, *, with_replacement: bool = False
) -> Tensor:
    """Which image each sample of a batch shows, (size,) int64.

    Every image comes once before any comes twice, in a new order each time round.

    Args:
        images: How many there are.
        seed: Decides the orders.
        step: Which batch of the run, from 0.
        size: Samples per batch.
        with_replacement: Choose each sample's image independently instead, as the loader of the
            published code does.
    """
    if with_replacement:
        return torch.randint(images, (size,), generator=seeded_generator(seed, step, _CHOICES))
    places = range(step * size, (step + 1) * size)
    orders = {
        epoch: torch.randperm(images, generator=seeded_generator(seed, -1 - epoch))
        for epoch in range(places[0] // images, places[-1] // images + 1)
    }
    return torch.stack([orders[place // images][place % images] for place in places])
