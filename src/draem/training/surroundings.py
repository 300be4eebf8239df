"""What surrounds a training: signals, failures to write, and a library that talks a lot."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from draem.errors import OutputError


@contextmanager
def stop_gently(interrupted: threading.Event, console: Console) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a stop after the current step; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        console.print("Stopping after this step; press Ctrl-C again to stop at once.")

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield
    except SystemExit:
        # Lightning ends the process after these signals; here the caller decides.
        if not interrupted.is_set():
            raise
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn a failure to write into an error that names the run.

    Raises:
        OutputError: The disk is full or may not be written.
    """
    try:
        with quiet_lightning():
            yield
    except OSError as error:
        raise OutputError(
            f"the run cannot be written ({error.strerror or error})",
            path=root,
            hint="Make room on the disk, then go on with --resume",
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice to its developers away from our users."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
