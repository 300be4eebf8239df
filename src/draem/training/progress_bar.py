"""The progress bar of a training run."""

from __future__ import annotations

import math

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from draem.training.schedule import RunClock


class TrainingProgress:
    """Shows how far the run has come, its speed and the time left.

    Args:
        clock: How far the run has come.
        batch_size: Samples per step, for the speed.
        console: Where to draw.
    """

    def __init__(self, clock: RunClock, batch_size: int, console: Console) -> None:
        self._clock = clock
        self._batch_size = batch_size
        self._first_step = 0
        self._progress = Progress(
            TextColumn("[bold]Training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}"),
            console=console,
            transient=True,
            # A file or a pipe would get empty lines.
            disable=console.quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=1.0, note="starting")

    def start(self, step: int) -> None:
        """Show the bar of a run that goes on from a step."""
        self._first_step = step
        self._progress.start()

    def update(self, step: int) -> None:
        """Move the bar."""
        running = self._clock.seconds - self._clock.earlier_seconds
        speed = (step - self._first_step) * self._batch_size / max(running, 1e-9)
        left = self._clock.seconds_left(step)
        note = f"step {step}"
        if self._clock.total_steps is not None:
            note += f" of {self._clock.total_steps}"
        note += f"  {speed:.1f} images/s"
        if left is not None:
            note += f"  {duration(left)} left"
        self._progress.update(self._task, completed=self._clock.fraction(step), note=note)

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> duration(7), duration(67), duration(3667)
        ('0:07', '1:07', '1:01:07')
    """
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
