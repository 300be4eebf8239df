"""The examples of a report: each an image, its reconstruction, its map and its true mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draem.evaluation.result import Evaluation, Example
from draem.imaging.colormap import heat, outline, overlay
from draem.imaging.encode import to_data_uri
from draem.imaging.resize import resize_image
from draem.inspection.calibration import Decision, decide_at
from draem.reporting.wording import count_text, image_name, printable, score_text

_LARGEST_SIDE = 256
_QUALITY = 82
_OUTLINE = (255, 255, 255)
_RIM = (20, 20, 20)
_MID_GREY = 160
_FATES: dict[Decision, str] = {
    "pass": "pass",
    "review": "go to review",
    "reject": "be rejected",
}
_VERDICTS: dict[tuple[int, Decision], tuple[str, str]] = {
    (0, "pass"): ("passes", "right"),
    (0, "review"): ("goes to review", "review"),
    (0, "reject"): ("rejected: false alarm", "wrong"),
    (1, "pass"): ("passes: missed", "wrong"),
    (1, "review"): ("goes to review", "review"),
    (1, "reject"): ("rejected", "right"),
}


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
        verdict: What the thresholds make of it; empty without a threshold.
        badge: `right`, `wrong` or `review`, as the verdict is; empty without a threshold.
        pictures: Its four pictures.
    """

    name: str
    defect: str
    score: str
    verdict: str
    badge: str
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
    """The examples in groups: misses, false alarms and hits; empty groups are left out.

    With a threshold, a group holds what its heading says and nothing else: of defective images
    those that are not rejected, of good ones those that do not pass. If there are none, the
    nearest to it stand there under another heading.
    """
    reviews = evaluation.review_threshold is not None
    groups = [
        _group(
            evaluation,
            "miss",
            ("Defective images not rejected" if reviews else "Worst misses", "Nearest to a miss"),
            ("defective image", "lowest"),
            evaluation.misses,
        ),
        _group(
            evaluation,
            "alarm",
            (
                "Good images that do not pass" if reviews else "Worst false alarms",
                "Nearest to a false alarm",
            ),
            ("good image", "highest"),
            evaluation.false_alarms,
        ),
        _group(
            evaluation,
            "hit",
            ("Clear hits", "Nearest to a hit"),
            ("defective image", "highest"),
            evaluation.hits,
        ),
    ]
    return [group for group in groups if group.entries]


def colour_bars(threshold: float | None = None) -> list[tuple[str, str]]:
    """The colours from 0 (left) to 1 (right) of the map and of the map laid over grey.

    Args:
        threshold: The model's, at which the colours are anchored.

    Returns:
        For each, its name and its pixels as a `data:` address.
    """
    levels = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (2, 1))  # (2, 256)
    grey = np.full((*levels.shape, 3), _MID_GREY, dtype=np.uint8)
    return [
        ("anomaly map", to_data_uri(heat(levels, threshold), "png")),
        ("map over image", to_data_uri(overlay(grey, levels, threshold), "png")),
    ]


def _group(
    evaluation: Evaluation,
    key: str,
    titles: tuple[str, str],
    wording: tuple[str, str],
    examples: Sequence[Example],
) -> Group:
    """One group, under the first title where it holds what that says, else under the second."""
    right = "pass" if key == "alarm" else "reject"
    fates = [_fate(evaluation, example) for example in examples]
    wanted = [fate is None or (fate == right) == (key == "hit") for fate in fates]
    named = any(wanted)
    shown = [
        (example, fate)
        for example, fate, kept in zip(examples, fates, wanted, strict=True)
        if kept or not named
    ]
    entries = [
        _entry(evaluation, f"{key}-{number}", example, fate)
        for number, (example, fate) in enumerate(shown, start=1)
    ]
    noun, extreme = wording
    scores = "score" if len(entries) == 1 else "scores"
    lead = f"{count_text(len(entries), noun)} with the {extreme} {scores}, {extreme} first."
    if evaluation.threshold is not None:
        lead += _fates_text([fate for _, fate in shown])
    return Group(key, titles[0] if named else titles[1], lead, entries)


def _fates_text(fates: Sequence[Decision | None]) -> str:
    """What becomes of the images of a group, in a sentence."""
    counts = Counter(fates)
    parts = [
        f"{_share_of(counts[fate], len(fates))} would {words}"
        for fate, words in _FATES.items()
        if counts[fate]
    ]
    return f" At the threshold, {' and '.join(parts)}." if parts else ""


def _share_of(part: int, whole: int) -> str:
    if part == whole:
        return "it" if whole == 1 else f"all {whole}"
    return f"{part} of them"


def _fate(evaluation: Evaluation, example: Example) -> Decision | None:
    if evaluation.threshold is None:
        return None
    return decide_at(
        example.scored.anomaly_score, evaluation.threshold, evaluation.review_threshold
    )


def _entry(evaluation: Evaluation, key: str, example: Example, fate: Decision | None) -> Entry:
    scored = example.scored
    words, badge = _VERDICTS[scored.label, fate] if fate else ("", "")
    return Entry(
        name=image_name(scored.path, evaluation.data),
        defect=printable(scored.defect) if scored.label else "good",
        score=score_text(scored.anomaly_score),
        verdict=words,
        badge=badge,
        pictures=_pictures(key, example, evaluation.threshold),
    )


def _pictures(key: str, example: Example, threshold: float | None) -> list[Picture]:
    size = _shrunk(example.image.shape[:2])
    image = resize_image(example.image, size, "area")
    marked = resize_image(overlay(example.image, example.anomaly_map, threshold), size, "area")
    marked_name = "map over image"
    if example.mask is not None and example.mask.any():
        marked = _outlined(marked, example.mask)
        marked_name = "map, true defect outlined"
    pictures = [
        ("image", image),
        ("anomaly map", resize_image(heat(example.anomaly_map, threshold), size, "area")),
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
