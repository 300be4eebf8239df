"""What happens to the test images at the threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from draem.evaluation.result import ScoredImage


@dataclass(frozen=True, slots=True)
class Outcome:
    """The images counted by truth and by verdict.

    Attributes:
        good_passed: Good images below the threshold.
        good_rejected: Good images at or above it: false alarms.
        defective_passed: Defective images below the threshold: misses.
        defective_rejected: Defective images at or above it.
    """

    good_passed: int
    good_rejected: int
    defective_passed: int
    defective_rejected: int

    @property
    def good(self) -> int:
        """Good images in all."""
        return self.good_passed + self.good_rejected

    @property
    def defective(self) -> int:
        """Defective images in all."""
        return self.defective_passed + self.defective_rejected

    @property
    def false_reject_rate(self) -> float:
        """Share of good images that are rejected; NaN without any."""
        return share(self.good_rejected, self.good)

    @property
    def miss_rate(self) -> float:
        """Share of defective images that pass; NaN without any."""
        return share(self.defective_passed, self.defective)

    @property
    def recall(self) -> float:
        """Share of defective images that are rejected; NaN without any."""
        return share(self.defective_rejected, self.defective)

    @property
    def precision(self) -> float:
        """Share of rejected images that are defective; NaN without any."""
        return share(self.defective_rejected, self.defective_rejected + self.good_rejected)


def outcome_at(images: Iterable[ScoredImage], threshold: float) -> Outcome:
    """Count the images by truth and verdict; a score at the threshold is rejected."""
    counts = {(label, rejected): 0 for label in (0, 1) for rejected in (False, True)}
    for image in images:
        counts[image.label, image.anomaly_score >= threshold] += 1
    return Outcome(counts[0, False], counts[0, True], counts[1, False], counts[1, True])


def share(part: int, whole: int) -> float:
    """A part of a whole; NaN where there is no whole."""
    return part / whole if whole else math.nan


def wilson_interval(part: int, whole: int) -> tuple[float, float]:
    """The 95% confidence interval of a share, from counts; (0, 1) without any.

    Examples:
        >>> low, high = wilson_interval(0, 41)
        >>> f"{low:.3f} to {high:.3f}"
        '0.000 to 0.086'

    Source:
        Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if whole == 0:
        return 0.0, 1.0
    z = 1.959964
    centre = (part + z * z / 2) / (whole + z * z)
    spread = z / (whole + z * z) * math.sqrt(part * (whole - part) / whole + z * z / 4)
    return max(0.0, centre - spread), min(1.0, centre + spread)
