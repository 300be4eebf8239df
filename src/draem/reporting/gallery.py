"""The examples of a report: each an image, its reconstruction, its map and its true mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draem.evaluation.result import Evaluation, Example
from draem.imaging.colors import heat, outline, overlay
from draem.imaging.encode import to_data_uri
from draem.imaging.resize import resize_image
from draem.reporting.wording import count_text, image_name, printable, score_text

_LARGEST_SIDE = 256
_QUALITY = 82
_OUTLINE = (255, 255, 255)
_RIM = (20, 20, 20)
_MID_GREY = 160


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an example.

    Attributes:
        key: Its id in the page.
        name: What it shows.
        uri: Its pixels.
        width: In pixels.
        height: In pixels.
    """

    key: str
    name: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One example.

    Attributes:
        name: The image's path below the data folder.
        defect: Its defect type, `good` for a normal image.
        score: Its score, in print.
        verdict: What the threshold makes of it; empty without a threshold.
        right: Whether the verdict is right.
        pictures: Its four pictures.
    """

    name: str
    defect: str
    score: str
    verdict: str
    right: bool
    pictures: list[Picture]


@dataclass(frozen=True, slots=True)
class Group:
    """Examples of one kind.

    Attributes:
        key: Its id in the page.
        title: Its heading.
        lead: What it holds.
        entries: The examples.
    """

    key: str
    title: str
    lead: str
    entries: list[Entry]


def galleries(evaluation: Evaluation) -> list[Group]:
    """The examples in groups: misses, false alarms and hits; empty groups are left out."""
    groups = [
        _group(
            evaluation,
            "miss",
            "Worst misses",
            "defective image",
            "lowest",
            evaluation.misses,
        ),
        _group(
            evaluation,
            "alarm",
            "Worst false alarms",
            "good image",
            "highest",
            evaluation.false_alarms,
        ),
        _group(
            evaluation,
            "hit",
            "Clear hits",
            "defective image",
            "highest",
            evaluation.hits,
        ),
    ]
    return [group for group in groups if group.entries]


def colour_bars() -> list[tuple[str, str]]:
    """The colours from 0 (left) to 1 (right) of the map and of the map laid over grey.

    Returns:
        For each, its name and its pixels as a `data:` address.
    """
    levels = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (2, 1))  # (2, 256)
    grey = np.full((*levels.shape, 3), _MID_GREY, dtype=np.uint8)
    return [
        ("anomaly map", to_data_uri(heat(levels), "png")),
        ("map over image", to_data_uri(overlay(grey, levels), "png")),
    ]


def _group(
    evaluation: Evaluation,
    key: str,
    title: str,
    noun: str,
    extreme: str,
    examples: Sequence[Example],
) -> Group:
    entries = [
        _entry(evaluation, f"{key}-{number}", example)
        for number, example in enumerate(examples, start=1)
    ]
    scores = "score" if len(entries) == 1 else "scores"
    lead = f"{count_text(len(entries), noun)} with the {extreme} {scores}, {extreme} first."
    if evaluation.threshold is not None and key != "hit":
        wrong = sum(not entry.right for entry in entries)
        fate = "pass" if key == "miss" else "be rejected"
        lead += f" At the threshold, {_share_of(wrong, len(entries))} would {fate}."
    return Group(key, title, lead, entries)


def _share_of(part: int, whole: int) -> str:
    if part == 0:
        return "none of them"
    if part == whole:
        return "it" if whole == 1 else f"all {whole}"
    return f"{part} of them"


def _entry(evaluation: Evaluation, key: str, example: Example) -> Entry:
    scored = example.scored
    verdict, right = _verdict(scored.label, scored.anomaly_score, evaluation.threshold)
    return Entry(
        name=image_name(scored.path, evaluation.data),
        defect=printable(scored.defect) if scored.label else "good",
        score=score_text(scored.anomaly_score),
        verdict=verdict,
        right=right,
        pictures=_pictures(key, example),
    )


def _verdict(label: int, score: float, threshold: float | None) -> tuple[str, bool]:
    if threshold is None:
        return "", True
    rejected = score >= threshold
    wording = {
        (0, False): "passes",
        (0, True): "rejected: false alarm",
        (1, False): "passes: missed",
        (1, True): "rejected",
    }
    return wording[label, rejected], rejected == bool(label)


def _pictures(key: str, example: Example) -> list[Picture]:
    size = _shrunk(example.image.shape[:2])
    image = resize_image(example.image, size, "area")
    marked = resize_image(overlay(example.image, example.anomaly_map), size, "area")
    marked_name = "map over image"
    if example.mask is not None and example.mask.any():
        marked = _outlined(marked, example.mask)
        marked_name = "map, true defect outlined"
    pictures = [
        ("image", image),
        ("anomaly map", resize_image(heat(example.anomaly_map), size, "area")),
        (marked_name, marked),
    ]
    if example.reconstruction is not None:
        pictures.insert(1, ("reconstruction", resize_image(example.reconstruction, size, "area")))
    return [
        Picture(f"{key}-{number}", name, to_data_uri(pixels, "webp", _QUALITY), size[1], size[0])
        for number, (name, pixels) in enumerate(pictures, start=1)
    ]


def _outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Outline a mask in white with a dark rim, so that it shows on any ground and in any eye."""
    levels = np.where(mask, 255, 0).astype(np.uint8)
    shrunk = resize_image(levels, image.shape[:2], "area") > 0
    return outline(outline(image, _grown(shrunk), _RIM), shrunk, _OUTLINE)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifts = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.logical_or.reduce(shifts)


def _shrunk(size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width such that the longer is at most `_LARGEST_SIDE`."""
    height, width = size
    factor = min(1.0, _LARGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
