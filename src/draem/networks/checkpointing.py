"""Activation checkpointing: less memory in training for more computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class CheckpointedModule(nn.Module):
    """A module whose forward pass runs in segments that can be checkpointed.

    Attributes:
        recompute: Store only the input of each segment and compute its activations again in the
            backward pass. Outputs, gradients and batch statistics stay the same.

    Source:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """

    recompute = False

    def checkpointed(self, forward: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Run one segment.

        Args:
            forward: The segment. It must not use anything that may change before the backward
                pass, such as a loop variable.
            inputs: Its inputs.
        """
        if not (self.recompute and torch.is_grad_enabled()):
            return forward(*inputs)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), frozen_statistics(self)

        features: Tensor = checkpoint(
            forward,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing in the networks is random
            context_fn=contexts,
        )
        return features


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Stop batch normalisation from updating its running statistics a second time.

    They were updated in the first forward pass. The normalisation itself does not change.
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
