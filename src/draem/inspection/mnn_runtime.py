"""Inference with MNN, from a file that `draem export --to mnn` wrote.

`MNN.tools` is never imported: it installs a package by itself and sends usage data.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.inspection.exported import ExportedRuntime
from draem.inspection.runtime import (
    ModelInput,
    RuntimeOutput,
    bounded_threads,
    damaged,
    named_output,
)

CODE = "draem"
EXACT_CODE = "draem exact"
"""What MNN calls the business code of a model, here whether it needs the exacter convolutions."""
_WINOGRAD = 3
_EXACT = 1
"""MNN's hint for the size of Winograd's tiles, and the value for small ones: with large ones, the
default, convolutions take a quarter to a third less time and lose two digits."""
_STDOUT = 1
_silencing = threading.Lock()


class _Pool:
    """MNN's threads, which all models of a process share.

    Attributes:
        started: Some model of this process, or of one that it was forked from, uses them.
        lost: A fork has left this process without them. MNN does not notice, and waits.
    """

    started = False
    lost = False


def _after_fork() -> None:
    _Pool.lost = _Pool.lost or _Pool.started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class MnnRuntime(ExportedRuntime):
    """An exported model in MNN."""

    fork_hint = "Load it with threads=1 before the fork, or use MNN only after it"

    def _open(self, path: Path, threads: int | None) -> tuple[list[ModelInput], list[str]]:
        used = bounded_threads(threads)
        if _Pool.lost:
            raise self._forked_error()
        _Pool.started |= used > 1
        with silenced():
            import MNN

            settings = {
                "backend": "CPU",
                "numThread": used,
                "precision": "high",
            }
            # MNN keeps no reference of its own to what runs the module.
            self._manager = MNN.nn.create_runtime_manager((settings,))
            try:
                self._module = MNN.nn.load_module_from_file(
                    str(path), [], [], runtime_manager=self._manager
                )
                if self._module.get_info()["bizCode"] == EXACT_CODE:
                    self._manager.set_hint(_WINOGRAD, _EXACT)
                    self._module = MNN.nn.load_module_from_file(
                        str(path), [], [], runtime_manager=self._manager
                    )
            except (SystemError, UnicodeEncodeError) as error:
                raise damaged(path, "MNN") from error
            info = self._module.get_info()
        self._expr = MNN.expr
        inputs = [
            ModelInput(name, str(given.dtype).rpartition(".")[2], tuple(given.shape[1:]))
            for name, given in zip(info["inputNames"], info["inputs"], strict=True)
        ]
        return inputs, info["outputNames"]

    def _survives_fork(self) -> bool:
        return super()._survives_fork() and not _Pool.started

    def run(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch of (batch, height, width, 3) uint8 RGB images of the model's size."""
        pixels = np.ascontiguousarray(images)
        with self._one_at_a_time, self._running():
            # NCHW here only means "as the shape says", as it does throughout an ONNX model.
            given = self._expr.const(pixels, list(pixels.shape), self._expr.NCHW, self._expr.uint8)
            outputs = [np.array(value.read()) for value in self._module.onForward([given])]
        return named_output(dict(zip(self._names, outputs, strict=True)))


load_mnn_runtime = MnnRuntime.load


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep MNN's banner, which it writes past Python, out of standard output."""
    with _silencing, contextlib.ExitStack() as stack:
        # A closed, missing or replaced standard output has nothing to keep clean.
        with contextlib.suppress(OSError, ValueError):
            if sys.stdout is not None:
                sys.stdout.flush()
            kept = os.dup(_STDOUT)
            stack.callback(os.close, kept)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, _STDOUT)
            stack.callback(os.dup2, kept, _STDOUT)
        yield
