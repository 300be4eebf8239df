"""How long a run is, how far it has come, and the learning rate there."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class RunClock:
    """Tells how far a run has come, by steps or by minutes.

    Attributes:
        total_steps: Length in steps; None for a run measured in minutes.
        total_seconds: Length in seconds; None for a run measured in steps.
        earlier_seconds: Training time before the run was last resumed.
        reached: Share of the run that has passed, in [0, 1], as all processes have agreed after
            the last step.
    """

    total_steps: int | None
    total_seconds: float | None
    earlier_seconds: float = 0.0
    reached: float = 0.0
    _started: float | None = field(default=None, init=False)

    def start(self) -> None:
        """Start counting the seconds."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far, that before a resume included."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self.earlier_seconds + running

    def fraction(self, step: int) -> float:
        """Share of the run that has passed after `step` steps, in [0, 1]."""
        if self.total_steps is not None:
            return min(1.0, step / self.total_steps)
        assert self.total_seconds is not None
        return min(1.0, self.seconds / self.total_seconds)

    def seconds_left(self, step: int) -> float | None:
        """Estimate of the time left; None while there is nothing to go by."""
        if self.total_seconds is not None:
            return max(0.0, self.total_seconds - self.seconds)
        fraction = self.fraction(step)
        return self.seconds * (1 - fraction) / fraction if fraction and self.seconds else None


def make_clock(
    images: int,
    batch_size: int,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
) -> RunClock:
    """A clock for a run of the given length, exactly one of epochs, steps and minutes.

    Example:
        >>> make_clock(300, 8, epochs=700).total_steps
        26250
    """
    if minutes is not None:
        return RunClock(None, 60 * minutes)
    return RunClock(steps or math.ceil((epochs or 1) * images / batch_size), None)


def learning_rate_factor(schedule: str, fraction: float) -> float:
    """What the learning rate is multiplied by at some point of the run.

    Args:
        schedule: `paper`, `upstream`, `cosine` or `constant`.
        fraction: Share of the run that has passed, in [0, 1].

    Source:
        `paper`: Zavrtanik et al., section 4: x0.1 at epochs 400 and 600 of 700. `upstream`: the
        published code: x0.2 at 0.8 and 0.9 of the epochs.

    Example:
        >>> learning_rate_factor("paper", 0.5), learning_rate_factor("upstream", 0.95)
        (1.0, 0.04000000000000001)
    """
    # Steps such as 4 of 7 have a fraction a rounding error away from the exact one.
    if schedule == "paper":
        passed = sum(fraction >= bound - 1e-9 for bound in (4 / 7, 6 / 7))
        return 1.0 if not passed else 0.1**passed
    if schedule == "upstream":
        passed = sum(fraction >= bound - 1e-9 for bound in (0.8, 0.9))
        return 1.0 if not passed else 0.2**passed
    if schedule == "cosine":
        warm_up, floor = 0.05, 0.01
        if fraction < warm_up:
            return max(floor, fraction / warm_up)
        progress = (fraction - warm_up) / (1 - warm_up)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
    return 1.0
