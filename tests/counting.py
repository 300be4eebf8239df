"""Counts what torch does: operations, and the bytes that they read and write."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Counting(TorchDispatchMode):
    """Counts, while it is entered, every operation that touches memory; views do not.

    Attributes:
        operations: How many.
        moved: Bytes of all tensors that these read or write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.moved = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and count it."""
        del types
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view and operation is not torch.ops.aten._unsafe_view.default:
            touched = {
                id(each): each.numel() * each.element_size()
                for each in tree_leaves((args, kwargs, result))
                if isinstance(each, torch.Tensor)
            }
            self.operations += 1
            self.moved += sum(touched.values())
        return result
