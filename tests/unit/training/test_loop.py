"""What one training step costs, in operations and bytes: a slow-down shows without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from draem.networks.model import Draem
from draem.simulation.simulator import SimulatedBatch
from draem.training.ema import WeightEma
from draem.training.loop import train_step
from draem.training.losses import LossWeights
from draem.training.optimizer import make_optimizer
from tests.support import small_draem

SIDE = 64
SAMPLES = 2
VIEWS = {"detach", "expand", "slice", "select", "transpose", "split"}
KINDS: dict[str, tuple[str, bool]] = {"compact": ("adamw", True), "published": ("adam", False)}


class Costs(TorchDispatchMode):
    """Counts operations, and the bytes of everything that they allocate."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.allocated = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # the signature is torch's
        given = _storages((args, kwargs))
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in VIEWS and not name.startswith("_record_function"):
            self.operations[name] += 1
        self.allocated += sum(
            size for place, size in _storages(result).items() if place not in given
        )
        return result


def _storages(values: Any) -> dict[int, int]:
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def prepared(architecture: str) -> tuple[Draem, Callable[[], None]]:
    """Networks, and a whole step but for the simulation, after the first one."""
    kind, of_mean = KINDS[architecture]
    fabric = Fabric(accelerator="cpu", devices=1)
    network = small_draem(8, 4, architecture).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, kind, learning_rate=1e-3, weight_decay=0.01)
    model, optimizer = fabric.setup(network, optimizer)
    average, weights = WeightEma(network, 0.99), LossWeights(ssim_of_mean=of_mean)
    images = torch.rand(SAMPLES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    mask = (images[:, :1] > 0.5).float()
    batch = SimulatedBatch(images, images * 0.9, mask, torch.ones(SAMPLES))

    def step() -> None:
        train_step(fabric, model, optimizer, batch, weights)
        average.update(2)

    step()
    return network, step


def layers(network: Draem, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in network.modules())


@pytest.mark.parametrize("architecture", KINDS)
def test_a_step_runs_nothing_twice(architecture: str) -> None:
    network, step = prepared(architecture)

    with Costs() as costs:
        step()

    counted = costs.operations
    convolutions, groups = layers(network, nn.Conv2d), 2 if architecture == "compact" else 1
    assert counted["convolution_backward"] == convolutions
    # SSIM blurs along rows and columns, forward and backward.
    assert counted["convolution"] == convolutions + 4
    norms = layers(network, nn.BatchNorm2d)
    assert counted["native_batch_norm"] == counted["native_batch_norm_backward"] == norms
    # The optimiser takes all weights at once, and so does the moving average.
    assert counted["_fused_adamw_"] + counted["_fused_adam_"] == groups
    assert (counted["_foreach_lerp_"], counted["_foreach_copy_"]) == (1, 0)
    # Gradients are dropped, not filled with zeros.
    assert not counted["zero_"] + counted["_foreach_zero_"]


@pytest.mark.parametrize("architecture", KINDS)
def test_a_step_neither_converts_nor_waits(architecture: str) -> None:
    _, step = prepared(architecture)

    with Costs() as costs:
        step()

    # `_local_scalar_dense` and `item` wait for a GPU; the rest would be needless copies.
    for name in ("_local_scalar_dense", "item", "_to_copy", "copy_", "permute", "nonzero"):
        assert not costs.operations[name], name
    # The images, and SSIM's maps forward and backward, get the order of the convolutions.
    assert costs.operations["clone"] <= 3


@pytest.mark.parametrize(
    ("architecture", "operations", "floats"), [("compact", 415, 255), ("published", 585, 1010)]
)
def test_a_step_stays_small(architecture: str, operations: int, floats: int) -> None:
    _, step = prepared(architecture)

    with Costs() as costs:
        step()

    # Both bounds lie about a twentieth above what was counted when they were set.
    assert costs.operations.total() <= operations
    assert costs.allocated <= 4 * floats * SAMPLES * SIDE * SIDE


@pytest.mark.parametrize("architecture", KINDS)
def test_the_arithmetic_of_a_step_is_that_of_its_convolutions(architecture: str) -> None:
    network, step = prepared(architecture)
    forward: list[int] = []

    def note(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(part, nn.Conv2d)
        forward.append(2 * output.numel() * part.weight[0].numel())

    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(note)

    with FlopCounterMode(display=False) as counter:
        step()

    channels = 1 if KINDS[architecture][1] else 3
    # Forward two passes with windows of 11; backward the same again, for the images alone.
    blurring = 2 * 2 * (2 * 11 * 4 * channels * SAMPLES * SIDE * SIDE)
    # The gradients of inputs and weights cost as much as the outputs; the images have none.
    assert counter.get_total_flops() == 3 * sum(forward) - forward[0] + blurring
