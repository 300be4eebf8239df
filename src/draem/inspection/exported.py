"""What the runtimes of exported models have in common: pickling, and forked processes.

A forked process has the memory of its parent and none of its threads. Whatever waits for such a
thread waits for ever. So a runtime that was loaded before the fork says whether it still works.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from draem.errors import InputError, ModelFileError
from draem.inspection.loading import load_runtime
from draem.inspection.runtime import ModelInput, Runtime, check_exported, check_input
from draem.model_card import ModelCard
from draem.model_file import read_card


class ExportedRuntime(ABC):
    """An exported model in the library that runs it, on the CPU.

    A pickle holds the file's path, and the file is read again.

    Attributes:
        fork_hint: What to do if it must run in a forked process and cannot.

    Args:
        path: The model file; OpenVINO's weights are next to it in a `.bin` file.
        device: `auto` or `cpu`.
        threads: How many it may use, at most one per core; None for one per core.
        fingerprint: That of the model's weights, which a pickle is compared with.

    Raises:
        ModelFileError: The library cannot load it, or an output is missing.
        InputError: The device is not the CPU, or the process was forked from one that uses the
            library and this one does not survive it.
    """

    fork_hint: ClassVar[str] = (
        "Fork while no thread is running the model, or load it after the fork"
    )

    def __init__(
        self,
        path: Path,
        device: str = "auto",
        threads: int | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self._origin = path.absolute(), device, threads, fingerprint
        self._one_at_a_time = threading.Lock()
        self._inside: set[int] = set()
        self._works = True
        _loaded.add(self)
        self._inputs, self._names = self._open(path, threads)
        check_exported(path, device, self._names)

    @abstractmethod
    def _open(self, path: Path, threads: int | None) -> tuple[list[ModelInput], list[str]]:
        """Load the file; what the model takes, and the names of its outputs."""

    @classmethod
    def load(
        cls, path: Path, device: str = "auto", threads: int | None = None
    ) -> tuple[ModelCard, Self]:
        """Read an exported model and make it ready to run; errors as of the class.

        Raises:
            ModelFileError: The model takes other images than its card says.
        """
        card = read_card(path)
        runtime = cls(path, device, threads, card.fingerprint)
        check_input(path, card.network.image_size, runtime._inputs)
        return card, runtime

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, self._origin

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Around each run.

        Raises:
            InputError: The model was loaded, or was running, before this process was forked.
        """
        if not self._works:
            raise self._forked_error()
        thread = threading.get_ident()
        self._inside.add(thread)
        try:
            yield
        finally:
            self._inside.discard(thread)

    def _forked_error(self) -> InputError:
        return InputError(
            "this model cannot run in a process that was forked from one that uses it",
            path=self._origin[0],
            hint=f"{self.fork_hint}; or start processes by `spawn` or `forkserver`",
        )

    def _survives_fork(self) -> bool:
        """Whether it works in a forked process."""
        return not self._inside

    def _after_fork(self) -> None:
        """Settle in a forked process what works there."""
        self._works = self._works and self._survives_fork()
        self._one_at_a_time = threading.Lock()
        # Never freed: libraries end their threads first, and wait for them.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


_loaded: weakref.WeakSet[ExportedRuntime] = weakref.WeakSet()


def _open_again(path: Path, device: str, threads: int | None, fingerprint: str | None) -> Runtime:
    card, runtime = load_runtime(path, device, threads)
    if fingerprint is not None and card.fingerprint != fingerprint:
        raise ModelFileError(
            "the file holds another model than the one that was pickled",
            path=path,
            expected=f"weights of fingerprint {fingerprint}",
            found=card.fingerprint,
            hint="Load the model again with draem.load",
        )
    return runtime


def _after_fork() -> None:
    for runtime in tuple(_loaded):
        runtime._after_fork()
    if "onnxruntime" in sys.modules:
        _leave_without_destructors()


def _leave_without_destructors() -> None:
    """End this process, when it ends, before ONNX Runtime waits for threads of its parent.

    Its destructors run after Python has ended, and would never return.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # glibc alone
        atexit.register(libc.fflush, None)
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
