"""What the commands share at the terminal: a console for people, a bar for long work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from draem.errors import shown
from draem.progress import file_progress

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from draem.evaluation.result import Evaluation


def stderr_console() -> Console:
    """The console for progress and remarks; results go to standard output."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def tell(text: object, *, err: bool = False) -> None:
    """Print a text in which no character acts on the terminal.

    Args:
        text: Lines.
        err: Print it to standard error, where everything but results goes.
    """
    import typer

    typer.echo(shown(text, lines=True), err=err)


@contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left; calls of (done, total) move it."""
    with file_progress(console) as report:
        yield partial(report, what)


@contextmanager
def told_when_stopped(told: Callable[[], str]) -> Iterator[None]:
    """Say how things stand where Ctrl-C stops the work, and let it stop."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"stopped: {told()}", err=True)
        raise


def finish_evaluation(evaluation: Evaluation, out: Path, title: str | None = None) -> None:
    """Print the figures, write metrics.json and the report, and print the report's path."""
    from draem.reporting import write_metrics, write_report

    names = ("false_reject_rate", "miss_rate", "normal_review_rate", "anomalous_review_rate")
    rates = {name: getattr(evaluation, name) for name in names}
    figures = evaluation.metrics | {k: rate for k, rate in rates.items() if rate is not None}
    widest = max(map(len, figures))
    for name, value in figures.items():
        tell(f"{name:<{widest}} {percent(value):>6}")
    if math.isnan(evaluation.metrics["pixel_auroc"]) and evaluation.counts["anomalous"]:
        tell("There are no masks, so figures of pixels are undefined.", err=True)
    write_metrics(evaluation, out)
    tell(write_report(evaluation, out, title=title).resolve())


def percent(value: float) -> str:
    """A share as percent with one digit, a hyphen if it is undefined.

    Example:
        >>> percent(0.9385), percent(float("nan"))
        ('93.8', '-')
    """
    return "-" if value != value else f"{100 * value:.1f}"
