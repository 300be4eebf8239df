from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from draem.evaluation.outcome import ScoredImage
from draem.evaluation.result import Curve, Evaluation, Example

KEYS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro_0.30",
    "aupro_0.05",
)
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A page's elements, after checking that every one that opens also closes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"<{tag}> repeats an attribute"
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a start"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and (kind is None or kind in (attributes.get("class") or "").split())
        ]


@pytest.fixture
def read_page() -> Callable[[str], Page]:
    return Page


def _example(scored: ScoredImage, size: tuple[int, int] = (24, 32)) -> Example:
    rng = np.random.default_rng(round(1000 * scored.anomaly_score))
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, dtype=bool)
    mask[8:14, 10:20] = True
    return Example(
        scored=scored,
        image=image,
        reconstruction=255 - image,
        anomaly_map=mask.astype(np.float32) * np.float32(scored.anomaly_score),
        mask=mask if scored.label else None,
    )


@pytest.fixture
def make_example() -> Callable[..., Example]:
    return _example


@pytest.fixture
def evaluation() -> Evaluation:
    """Four good and six defective images; threshold 0.5 rejects one good, passes two defective."""
    data = Path("parts/screw")
    good = [
        ScoredImage(data / f"test/good/{number}.png", "normal", 0, score)
        for number, score in enumerate((0.05, 0.1, 0.3, 0.5))
    ]
    defective = [
        ScoredImage(data / f"test/{defect}/{number}.png", defect, 1, score)
        for number, (defect, score) in enumerate(
            (
                ("scratch", 0.2),
                ("scratch", 0.9),
                ("scratch", 0.8),
                ("dent", 0.4),
                ("dent", 0.7),
                ("dent", 0.95),
            )
        )
    ]
    metrics = dict(zip(KEYS, (0.9, 0.95, 0.85, 0.97, 0.6, 0.55, 0.88, 0.66), strict=True))
    straight = Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    level = Curve(np.array([0.0, 1.0]), np.array([1.0, 0.5]))
    return Evaluation(
        model={
            "fingerprint": "abc123",
            "preset": "small",
            "image_size": (24, 32),
            "promised_false_reject_rate": 0.05,
        },
        data=data,
        mask_rule="half",
        metrics=metrics,
        metrics_by_defect={
            "scratch": {**metrics, "image_auroc": 0.8},
            "dent": {**metrics, "image_auroc": 0.7, "pixel_ap": math.nan},
        },
        counts={"normal": 4, "anomalous": 6, "scratch": 3, "dent": 3},
        images=(*good, *defective),
        threshold=0.5,
        curves={
            "image_roc": straight,
            "image_pr": level,
            "pixel_roc": straight,
            "pixel_pr": level,
            "pro": Curve(np.array([0.0, 0.1, 0.3]), np.array([0.0, 0.5, 1.0])),
        },
        misses=(_example(defective[0]), _example(defective[3]), _example(defective[4])),
        false_alarms=(_example(good[3]), _example(good[2])),
        hits=(_example(defective[5]), _example(defective[1])),
    )


@pytest.fixture
def no_anomalous(evaluation: Evaluation) -> Evaluation:
    return replace(
        evaluation,
        metrics=dict.fromkeys(KEYS, math.nan),
        metrics_by_defect={},
        counts={"normal": 4, "anomalous": 0},
        images=evaluation.images[:4],
        curves={},
        misses=(),
        hits=(),
    )
