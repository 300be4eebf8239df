from __future__ import annotations

import io
import signal
import threading

import pytest
from rich.console import Console

from draem.training.signals import stop_gently


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_the_second_stops(
    number: signal.Signals, console: Console
) -> None:
    before = signal.getsignal(number)
    with stop_gently(console) as interrupted:
        assert not interrupted.is_set()
        signal.raise_signal(number)
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
    # After a hang-up there is no terminal to write to.
    assert ("Stopping" in console.file.getvalue()) == (number != signal.SIGHUP)
    assert console.quiet == (number == signal.SIGHUP)


def test_a_signal_that_is_ignored_stays_ignored(console: Console) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_gently(console) as interrupted:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupted.is_set()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_takes_no_signals(console: Console) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[bool] = []

    def run() -> None:
        with stop_gently(console) as interrupted:
            seen.append(interrupted.is_set() or signal.getsignal(signal.SIGINT) is not before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
