"""What happens to the test images at the thresholds, and the rates: the only definition of them.

A defective image that goes to review is not missed, since a person looks at it; the share that goes
to review is a rate of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from draem.inspection.calibration import decide_at


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """One test image and its score.

    Attributes:
        path: The image file.
        defect: Its defect type (the folder's name), or `normal`.
        label: 0 normal, 1 anomalous.
        anomaly_score: In [0, 1].
    """

    path: Path
    defect: str
    label: int
    anomaly_score: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The images counted by truth and by verdict.

    Attributes:
        good_passed: Good images below every threshold.
        good_rejected: Good images at or above the threshold: false alarms.
        defective_passed: Defective images below every threshold: misses.
        defective_rejected: Defective images at or above the threshold.
        good_review: Good images at or above the review threshold alone.
        defective_review: Defective images at or above the review threshold alone.
    """

    good_passed: int
    good_rejected: int
    defective_passed: int
    defective_rejected: int
    good_review: int = 0
    defective_review: int = 0

    @property
    def good(self) -> int:
        """Good images in all."""
        return self.good_passed + self.good_review + self.good_rejected

    @property
    def defective(self) -> int:
        """Defective images in all."""
        return self.defective_passed + self.defective_review + self.defective_rejected

    @property
    def false_reject_rate(self) -> float:
        """Share of good images that are rejected; NaN without any."""
        return share(self.good_rejected, self.good)

    @property
    def miss_rate(self) -> float:
        """Share of defective images that pass; NaN without any."""
        return share(self.defective_passed, self.defective)

    @property
    def normal_review_rate(self) -> float:
        """Share of good images that go to review; NaN without any."""
        return share(self.good_review, self.good)

    @property
    def anomalous_review_rate(self) -> float:
        """Share of defective images that go to review; NaN without any."""
        return share(self.defective_review, self.defective)

    @property
    def recall(self) -> float:
        """Share of defective images that are rejected; NaN without any."""
        return share(self.defective_rejected, self.defective)

    @property
    def precision(self) -> float:
        """Share of rejected images that are defective; NaN without any."""
        return share(self.defective_rejected, self.defective_rejected + self.good_rejected)


def outcome_at(
    images: Iterable[ScoredImage], threshold: float, review: float | None = None
) -> Outcome:
    """Count the images by truth and verdict.

    Args:
        images: The test images.
        threshold: A score at it is rejected.
        review: A score at it, but below the threshold, goes to review.
    """
    counts = Counter(
        (image.label, decide_at(image.anomaly_score, threshold, review)) for image in images
    )
    return Outcome(
        counts[0, "pass"],
        counts[0, "reject"],
        counts[1, "pass"],
        counts[1, "reject"],
        counts[0, "review"],
        counts[1, "review"],
    )


def share(part: int, whole: int) -> float:
    """A part of a whole; NaN if there is no whole."""
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
