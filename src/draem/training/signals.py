"""Signals that end a training: it stops after the current step and can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextmanager
def stop_gently(console: Console) -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into a stop after the current step.

    A second signal stops at once. Handlers are restored afterwards. If SIGHUP is ignored, as by
    `nohup`, it stays ignored.

    Yields:
        Set when a signal has arrived.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        if signal.Signals(number).name == "SIGHUP":
            console.quiet = True  # there is no terminal left to write to
        console.print("Stopping after this step; press Ctrl-C again to stop at once.")

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN or signal.Signals(number).name != "SIGHUP":
            signal.signal(number, on_signal)
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
