"""Activation checkpointing: networks that can compute parts of their forward pass again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class CheckpointedModule(nn.Module):
    """A module whose forward pass is cut into sections.

    Attributes:
        recompute: Keep only what goes into a section, and compute what its backward pass needs
            again when it is needed. Outputs, gradients and statistics stay the same.

    Source:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """

    recompute = False

    def section(self, forward: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Run one section.

        Args:
            forward: What it does. It must not depend on what may change before the backward pass,
                such as the variable of a loop.
            inputs: What goes into it.
        """
        if not (self.recompute and torch.is_grad_enabled()):
            return forward(*inputs)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), settled_statistics(self)

        features: Tensor = checkpoint(
            forward,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing in the networks is random
            context_fn=contexts,
        )
        return features


@contextmanager
def settled_statistics(module: nn.Module) -> Iterator[None]:
    """Batch normalisation normalises as it does, but its running statistics stay as they are.

    They took the batch in when it came through the first time.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Not by `track_running_stats`: the backward pass must find as many saved tensors as before.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
