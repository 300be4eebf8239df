"""`report.html`: what an evaluation found, for people, in one file that needs no other."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from draem._version import __version__
from draem.errors import shown
from draem.evaluation.outcome import Outcome, ScoredImage, outcome_at, wilson_interval
from draem.evaluation.result import Evaluation
from draem.files import make_folder, write_text
from draem.inspection.guarantee import proviso
from draem.reporting.curve_plots import curve_charts
from draem.reporting.gallery import colour_bars, galleries
from draem.reporting.metrics_json import json_ready
from draem.reporting.score_histogram import score_histogram
from draem.reporting.wording import (
    HEADLINE,
    MASK_RULES,
    METRICS,
    UNDEFINED,
    count_text,
    percent,
    percent_sign,
    printable,
    score_text,
    size_text,
)

_PIXEL_RATE = "pixel_false_positive_rate"


@dataclass(frozen=True, slots=True)
class DefectRow:
    """One line of the table of defect types.

    Attributes:
        name: The defect type.
        images: How many images show it.
        missed: How many of them pass; a dash without a threshold.
        review: How many of them go to review; a dash without a threshold.
        figures: Its metrics in percent, in the order of `METRICS`.
    """

    name: str
    images: str
    missed: str
    review: str
    figures: list[str]


@dataclass(frozen=True, slots=True)
class Sentence:
    """What happens to one class at the threshold.

    Attributes:
        wrong: Images judged wrongly, or left to a person.
        all: Images in all.
        noun: What they are and what happens to them.
        rate: The share of those, with its confidence interval.
    """

    wrong: str
    all: str
    noun: str
    rate: str


def write_report(evaluation: Evaluation, folder: str | Path, *, title: str | None = None) -> Path:
    """Write `report.html`, making the folder if it is missing.

    The page holds its pictures and charts itself, runs no script and loads nothing.

    Args:
        evaluation: What to report.
        folder: Where to write.
        title: The page's heading; by default the model's category or the data folder's name.

    Returns:
        The file's path.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    return write_text(make_folder(folder) / "report.html", render_report(evaluation, title=title))


def render_report(evaluation: Evaluation, *, title: str | None = None) -> str:
    """The report as the text of an HTML page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("draem.reporting", "templates"),
        autoescape=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_context(evaluation, title))


def _context(evaluation: Evaluation, title: str | None) -> dict[str, object]:
    category = evaluation.model.get("category") or evaluation.data.name or evaluation.data
    outcome = evaluation.outcome
    labels = Counter(image.label for image in evaluation.images)
    return {
        "version": __version__,
        "title": printable(title or str(category)),
        "facts": _facts(evaluation, str(category), labels),
        "headline": [
            (metric.name, percent_sign(evaluation.metrics.get(metric.key)), metric.caption)
            for metric in HEADLINE
        ],
        "missing": _missing(evaluation, labels),
        "outcome": outcome,
        "sentences": _sentences(evaluation, outcome) if outcome else [],
        "threshold": "" if evaluation.threshold is None else score_text(evaluation.threshold),
        "review": ""
        if evaluation.review_threshold is None
        else score_text(evaluation.review_threshold),
        "pixel_threshold": _pixel_threshold(evaluation.model),
        "promised": {
            name: _promised_rate(evaluation.model, name)
            for name in ("promised_false_reject_rate", "promised_review_rate", _PIXEL_RATE)
        },
        "proviso": proviso(cross_fitted=bool(evaluation.model.get("cross_fitted"))),
        "labels": {"good": labels[0], "defective": labels[1]},
        "histogram": score_histogram(
            evaluation.images, evaluation.threshold, evaluation.review_threshold
        ),
        "charts": curve_charts(evaluation.curves, evaluation.metrics, outcome),
        "metrics": METRICS,
        "overall": _defect_row("all", labels[1], outcome, evaluation.metrics),
        "defects": _defect_rows(evaluation),
        "groups": galleries(evaluation),
        "colour_bars": colour_bars(evaluation.threshold),
        "mask_rule": evaluation.mask_rule,
        "mask_rule_meaning": MASK_RULES[evaluation.mask_rule],
        "model": _flat(evaluation.model),
        "data": printable(str(evaluation.data)),
    }


def _facts(
    evaluation: Evaluation, category: str, labels: Mapping[int, int]
) -> list[tuple[str, str]]:
    tested = f"{count_text(labels[0], 'good image')}, {labels[1]:,} defective"
    return [
        ("Category", printable(category)),
        ("Tested on", tested),
        ("Model preset", printable(str(evaluation.model.get("preset", UNDEFINED)))),
        (
            "Tiles of" if "tile_overlap" in evaluation.model else "Image size",
            size_text(evaluation.model.get("image_size")),
        ),
    ]


def _promised_rate(model: Mapping[str, object], name: str) -> str:
    """A share that calibration promised not to exceed, if it is known."""
    rate = model.get(name)
    return f"{100 * rate:.3g}%" if isinstance(rate, float) else ""


def _pixel_threshold(model: Mapping[str, object]) -> str:
    threshold = model.get("pixel_threshold")
    return score_text(threshold) if isinstance(threshold, float) else ""


def _missing(evaluation: Evaluation, labels: Mapping[int, int]) -> str:
    """Why figures are undefined, or nothing if all are defined."""
    if not labels[1]:
        return (
            "There are no defective test images, so no detection figure can be computed. "
            "Scores and false alarms of good images are shown."
        )
    if not labels[0]:
        return (
            "There are no good test images, so figures by image and false alarms cannot be "
            "computed."
        )
    pixel = [value for key, value in evaluation.metrics.items() if not key.startswith("image_")]
    if not any(math.isfinite(value) for value in pixel):
        return "There are no masks, so figures of pixels and regions cannot be computed."
    return ""


def _sentences(evaluation: Evaluation, outcome: Outcome) -> list[Sentence]:
    good, defective = "good image", "defective image"
    classes = [(outcome.good_rejected, outcome.good, good, "would be rejected")]
    if evaluation.review_threshold is None:
        classes += [(outcome.defective_passed, outcome.defective, defective, "would pass")]
    else:
        classes += [
            (outcome.good_review, outcome.good, good, "would go to review"),
            (outcome.defective_review, outcome.defective, defective, "would go to review"),
            (outcome.defective_passed, outcome.defective, defective, "would pass"),
        ]
    sentences = []
    for wrong, total, noun, fate in classes:
        if not total:
            continue
        low, high = wilson_interval(wrong, total)
        rate = (
            f"{percent_sign(wrong / total)}; with this many images the true rate is likely "
            f"between {percent_sign(low)} and {percent_sign(high)}"
        )
        plural = noun if total == 1 else f"{noun}s"
        sentences.append(Sentence(f"{wrong:,}", f"{total:,}", f"{plural} {fate}", rate))
    return sentences


def _defect_rows(evaluation: Evaluation) -> list[DefectRow]:
    """One row a defect type, the hardest to detect first."""
    threshold, review = evaluation.threshold, evaluation.review_threshold
    images: dict[str, list[ScoredImage]] = defaultdict(list)
    for image in evaluation.images:
        if image.label:
            images[image.defect].append(image)
    return [
        _defect_row(
            defect,
            len(images[defect]) or evaluation.counts.get(defect, 0),
            None if threshold is None else outcome_at(images[defect], threshold, review),
            metrics,
        )
        for defect, metrics in sorted(evaluation.metrics_by_defect.items(), key=_difficulty)
    ]


def _difficulty(item: tuple[str, Mapping[str, float]]) -> tuple[float, float, str]:
    defect, metrics = item
    ranks = [metrics.get(key, math.nan) for key in ("image_auroc", "pixel_ap")]
    auroc, ap = (rank if math.isfinite(rank) else 2.0 for rank in ranks)
    return auroc, ap, defect


def _defect_row(
    name: str, images: int, outcome: Outcome | None, metrics: Mapping[str, float]
) -> DefectRow:
    return DefectRow(
        name=printable(name),
        images=f"{images:,}",
        missed=f"{outcome.defective_passed:,}" if outcome else UNDEFINED,
        review=f"{outcome.defective_review:,}" if outcome else UNDEFINED,
        figures=[percent(metrics.get(metric.key)) for metric in METRICS],
    )


def _flat(value: object, name: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines, `name.part` and text."""
    ready = json_ready(value)
    if not isinstance(ready, dict):
        return [(name, _fact_text(ready))]
    lines: list[tuple[str, str]] = []
    for key, item in ready.items():
        lines += _flat(item, f"{name}.{key}" if name else key)
    return lines


def _fact_text(value: object) -> str:
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_fact_text(item) for item in value) or UNDEFINED
    return f"{value:.6g}" if isinstance(value, float) else str(value)
