"""ROC, precision-recall and PRO curves as SVG paths on a square of 100 by 100."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from draem.evaluation.outcome import Outcome
from draem.evaluation.result import Curve
from draem.reporting.axes import Floats, Tick
from draem.reporting.wording import percent_sign

_PRO_LIMIT = 0.30
_LEAST_MOVE = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        kind: `image`, `pixel` or `region`; decides colour and dashes.
        name: What the legend calls it.
        path: The `d` of its SVG path.
        area: The `d` of the area under it.
        value: The area, in print.
    """

    kind: str
    name: str
    path: str
    area: str
    value: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of curves.

    Attributes:
        title: Its heading.
        caption: How to read it.
        x_label: Under the horizontal axis.
        y_label: Next to the vertical axis.
        x_ticks: Marks from left to right.
        y_ticks: Marks from bottom to top.
        lines: The curves; none if all are undefined.
        point: Where the threshold lies, (x, y) in percent from the top left corner.
        guess: The `d` of the line that guessing gives, if it is known.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line] = field(default_factory=list)
    point: tuple[float, float] | None = None
    guess: str = ""


def curve_charts(
    curves: Mapping[str, Curve], metrics: Mapping[str, float], outcome: Outcome | None
) -> list[Chart]:
    """The three charts of the report.

    Args:
        curves: As in `Evaluation.curves`; an absent one is not drawn.
        metrics: As in `Evaluation.metrics`; the areas come from here.
        outcome: What happens at the threshold, to mark it; None if there is none.
    """
    return [_roc(curves, metrics, outcome), _pr(curves, metrics, outcome), _pro(curves, metrics)]


def line_path(x: Floats, y: Floats) -> str:
    """An SVG path from point to point; (0, 0) is the bottom left corner, (1, 1) the top right.

    Examples:
        >>> line_path(np.array([0.0, 0.25, 1.0]), np.array([0.0, 0.5, 1.0]))
        'M0 100L25 50L100 0'
    """
    points = _thinned(x, y)
    return "M" + "L".join(f"{_number(100 * px)} {_number(100 - 100 * py)}" for px, py in points)


def step_path(x: Floats, y: Floats) -> str:
    """An SVG path whose height over each interval is that of its right end.

    The area under it is average precision, which a sloping line would overstate.

    Examples:
        >>> step_path(np.array([0.0, 0.5, 1.0]), np.array([1.0, 1.0, 0.75]))
        'M0 0V0H50V25H100'
    """
    points = _thinned(x, y)
    first = points[0][1]
    steps = "".join(f"V{_number(100 - 100 * py)}H{_number(100 * px)}" for px, py in points[1:])
    lead = f"M0 {_number(100 - 100 * first)}"
    return lead + (f"H{_number(100 * points[0][0])}" if points[0][0] > 0 else "") + steps


def _thinned(x: Floats, y: Floats) -> list[tuple[float, float]]:
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    kept = points[:1]
    for px, py in points[1:-1]:
        if 100 * max(abs(px - kept[-1][0]), abs(py - kept[-1][1])) >= _LEAST_MOVE:
            kept.append((px, py))
    return kept + points[1:][-1:]


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:g}"


def _closed(path: str, right: float) -> str:
    return f"{path}L{_number(100 * right)} 100L0 100Z"


def _lines(
    curves: Mapping[str, Curve],
    metrics: Mapping[str, float],
    curve: str,
    metric: str,
    path_of: Callable[[Floats, Floats], str],
) -> list[Line]:
    """The image's and the pixels' line of one kind of curve."""
    lines = []
    for kind in ("image", "pixel"):
        found = curves.get(f"{kind}_{curve}")
        if found is not None and found.x.size:
            path = path_of(found.x, found.y)
            area = _closed(path, float(found.x[-1]))
            value = percent_sign(metrics.get(f"{kind}_{metric}"))
            lines.append(Line(kind, f"{kind} {metric.upper()}", path, area, value))
    return lines


def _roc(
    curves: Mapping[str, Curve], metrics: Mapping[str, float], outcome: Outcome | None
) -> Chart:
    return Chart(
        title="ROC",
        caption="The nearer to the top left corner, the better. The diagonal is guessing.",
        x_label="false positive rate",
        y_label="true positive rate",
        x_ticks=_unit_ticks(),
        y_ticks=_unit_ticks(),
        lines=_lines(curves, metrics, "roc", "auroc", line_path),
        point=_point(outcome.false_reject_rate, outcome.recall) if outcome else None,
        guess="M0 100L100 0",
    )


def _pr(
    curves: Mapping[str, Curve], metrics: Mapping[str, float], outcome: Outcome | None
) -> Chart:
    return Chart(
        title="Precision and recall",
        caption="The nearer to the top right corner, the better.",
        x_label="recall: share of defects found",
        y_label="precision",
        x_ticks=_unit_ticks(),
        y_ticks=_unit_ticks(),
        lines=_lines(curves, metrics, "pr", "ap", step_path),
        point=_point(outcome.recall, outcome.precision) if outcome else None,
    )


def _pro(curves: Mapping[str, Curve], metrics: Mapping[str, float]) -> Chart:
    curve = curves.get("pro")
    lines = []
    if curve is not None and curve.x.size:
        for limit in (0.30, 0.05):
            x, y = _cut(curve, limit)
            path = line_path(x / _PRO_LIMIT, y)
            area = _closed(path, float(x[-1]) / _PRO_LIMIT)
            key = f"aupro_{limit:.2f}"
            kind = "region" if limit == _PRO_LIMIT else "region strict"
            value = percent_sign(metrics.get(key))
            lines.append(Line(kind, f"AUPRO {limit:.2f}", path, area, value))
    return Chart(
        title="PRO: per-region overlap",
        caption="How much of each defect is marked, against how many good pixels are marked too.",
        x_label="false positive rate (pixels)",
        y_label="mean overlap",
        x_ticks=[Tick(100 * value / _PRO_LIMIT, f"{value:g}") for value in (0, 0.1, 0.2, 0.3)],
        y_ticks=_unit_ticks(),
        lines=lines,
    )


def _cut(curve: Curve, limit: float) -> tuple[Floats, Floats]:
    inside = curve.x <= limit
    if inside.all():
        return curve.x, curve.y
    end = np.interp(limit, curve.x, curve.y)
    return np.append(curve.x[inside], limit), np.append(curve.y[inside], end)


def _point(x: float, y: float) -> tuple[float, float] | None:
    if math.isnan(x) or math.isnan(y):
        return None
    return 100 * x, 100 - 100 * y


def _unit_ticks() -> list[Tick]:
    return [Tick(25 * index, f"{0.25 * index:g}") for index in range(5)]
