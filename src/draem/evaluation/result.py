"""What an evaluation finds: numbers, curves and the pictures worth a look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from draem.evaluation.outcome import Outcome, ScoredImage, outcome_at

MaskRule = Literal["half", "upstream"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve, ready to draw.

    Attributes:
        x: (points,) float64 in [0, 1], never falling.
        y: (points,) float64 in [0, 1].
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """One test image with everything a person wants to see of it.

    Attributes:
        scored: The image's path, label and score.
        image: (height, width, 3) uint8 RGB at the network's input size, or of a tiled model at the
            image's own; shrunk, as the others are, to about a million pixels if it has more.
        reconstruction: (height, width, 3) uint8 RGB; None if the model gives none.
        anomaly_map: (height, width) float32 in [0, 1].
        mask: (height, width) bool, the true defect pixels; None for a normal image.
    """

    scored: ScoredImage
    image: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8] | None
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything one evaluation found.

    Attributes:
        model: Facts about the model: `fingerprint`, `preset`, `image_size` and so on.
        data: The category's folder.
        mask_rule: How grey masks became true or false pixels.
        metrics: The metrics over the whole test set, by name; NaN where undefined.
        metrics_by_defect: The same, each defect type against all normal images.
        counts: Images: `normal`, `anomalous`, and one entry a defect type.
        images: Every test image's score, in the order of the test set.
        threshold: Scores at or above it are anomalous; None if the model has none.
        curves: `image_roc`, `image_pr`, `pixel_roc`, `pixel_pr` and `pro`
            (PRO over the false-positive rate); a curve that is undefined is absent.
        misses: Anomalous images with the lowest scores, lowest first.
        false_alarms: Normal images with the highest scores, highest first.
        hits: Anomalous images with the highest scores, highest first.
        review_threshold: Scores at or above it, but below the threshold, are for a person to look
            at; None if the model has none.
    """

    model: dict[str, object]
    data: Path
    mask_rule: MaskRule
    metrics: dict[str, float]
    metrics_by_defect: dict[str, dict[str, float]]
    counts: dict[str, int]
    images: tuple[ScoredImage, ...]
    threshold: float | None
    curves: dict[str, Curve]
    misses: tuple[Example, ...]
    false_alarms: tuple[Example, ...]
    hits: tuple[Example, ...]
    review_threshold: float | None = None

    @property
    def outcome(self) -> Outcome | None:
        """The images counted by truth and decision; None without a threshold."""
        if self.threshold is None:
            return None
        return outcome_at(self.images, self.threshold, self.review_threshold)

    @property
    def false_reject_rate(self) -> float | None:
        """Share of normal images that are rejected; None if undefined."""
        return self._rate("false_reject_rate")

    @property
    def miss_rate(self) -> float | None:
        """Share of anomalous images that pass; None if undefined. Review is not missed."""
        return self._rate("miss_rate")

    @property
    def normal_review_rate(self) -> float | None:
        """Share of normal images that go to review; None without a review threshold."""
        return None if self.review_threshold is None else self._rate("normal_review_rate")

    @property
    def anomalous_review_rate(self) -> float | None:
        """Share of anomalous images that go to review; None without a review threshold."""
        return None if self.review_threshold is None else self._rate("anomalous_review_rate")

    def _rate(self, name: str) -> float | None:
        rate: float = getattr(self.outcome, name, math.nan)
        return None if math.isnan(rate) else rate
