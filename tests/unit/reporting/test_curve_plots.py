from __future__ import annotations

import math
import re

import numpy as np
import pytest

from draem.evaluation.outcome import Outcome, outcome_at
from draem.evaluation.result import Curve, Evaluation
from draem.reporting.curve_plots import curve_charts, line_path, step_path


def _area(closed_path: str) -> float:
    """The area, in units of the square, of a closed path of M, L, H and V with y downwards."""
    points: list[tuple[float, float]] = []
    for command, values in re.findall(r"([MLHV])([^MLHVZ]*)", closed_path):
        numbers = [float(value) for value in values.split()]
        last = points[-1] if points else (0.0, 0.0)
        if command == "H":
            points.append((numbers[0], last[1]))
        elif command == "V":
            points.append((last[0], numbers[0]))
        else:
            points.append((numbers[0], numbers[1]))
    twice = sum(
        x0 * y1 - x1 * y0
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True)
    )
    return abs(twice) / 2 / 100**2


def test_line_path_by_hand() -> None:
    x, y = np.array([0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.6, 0.8, 1.0])
    assert line_path(x, y) == "M0 100L0 40L50 20L100 0"


def test_step_path_by_hand() -> None:
    x, y = np.array([0.0, 0.25, 1.0]), np.array([1.0, 0.9, 0.5])
    assert step_path(x, y) == "M0 0V10H25V50H100"


def test_a_step_path_begins_at_no_recall() -> None:
    assert step_path(np.array([0.5, 1.0]), np.array([0.75, 0.5])) == "M0 25H50V50H100"


def test_thinning_moves_no_point_far() -> None:
    x = np.linspace(0, 1, 50_000)
    path = line_path(x, np.sqrt(x))
    points = np.array([pair.split() for pair in path[1:].split("L")], dtype=float) / 100
    assert len(points) < 2500
    np.testing.assert_allclose((1 - points[:, 1]) ** 2, points[:, 0], atol=3e-4)
    assert points[0].tolist() == [0, 1]
    assert points[-1].tolist() == [1, 0]


def test_marked_areas_are_the_metrics() -> None:
    """A ROC through (0.2, 0.8) has area 0.8; precision 1 to recall 0.4, then 0.5, AP 0.7."""
    curves = {
        "image_roc": Curve(np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.8, 1.0])),
        "image_pr": Curve(np.array([0.0, 0.4, 1.0]), np.array([1.0, 1.0, 0.5])),
        # Overlap rises to 1 at a false-positive rate of 0.1: 0.25 / 0.3 and 0.0125 / 0.05.
        "pro": Curve(np.array([0.0, 0.1, 1.0]), np.array([0.0, 1.0, 1.0])),
    }
    roc, pr, pro = curve_charts(curves, {}, None)
    assert _area(roc.lines[0].area) == pytest.approx(0.08 + 0.8 * 0.9)
    assert _area(pr.lines[0].area) == pytest.approx(0.7)
    assert _area(pro.lines[0].area) == pytest.approx(0.25 / 0.3, abs=1e-3)
    assert _area(pro.lines[1].area) * 0.3 / 0.05 == pytest.approx(0.25, abs=1e-3)
    assert pro.lines[0].path == "M0 100L33.33 0L100 0"
    assert pro.lines[1].path == "M0 100L16.67 50"


def test_a_pro_curve_that_ends_at_the_limit_is_drawn_whole() -> None:
    curves = {"pro": Curve(np.array([0.0, 0.3]), np.array([0.0, 0.6]))}
    pro = curve_charts(curves, {"aupro_0.30": 0.3}, None)[2]
    assert pro.lines[0].path == "M0 100L100 40"
    assert pro.lines[0].value == "30.0%"
    assert pro.lines[1].value == "–"


def test_the_threshold_is_marked_on_image_curves(evaluation: Evaluation) -> None:
    outcome = outcome_at(evaluation.images, 0.5)
    roc, pr, pro = curve_charts(evaluation.curves, evaluation.metrics, outcome)
    assert roc.point == pytest.approx((25, 100 / 3))
    assert pr.point == pytest.approx((100 * 4 / 6, 20))
    assert pro.point is None
    assert [(line.name, line.value) for line in roc.lines] == [
        ("image AUROC", "90.0%"),
        ("pixel AUROC", "97.0%"),
    ]


def test_undefined_curves_and_points_are_left_out() -> None:
    nothing_rejected = Outcome(
        good_passed=3, good_rejected=0, defective_passed=0, defective_rejected=0
    )
    charts = curve_charts({}, {"image_auroc": math.nan}, nothing_rejected)
    assert [chart.lines for chart in charts] == [[], [], []]
    assert [chart.point for chart in charts] == [None, None, None]
