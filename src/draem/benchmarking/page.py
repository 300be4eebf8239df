"""`index.html` of a benchmark: its tables, and the worst images of each category one click away."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from draem._version import __version__
from draem.benchmarking.runs import Plan, Run
from draem.benchmarking.summary import FIGURES, MEAN, Cell, Row
from draem.datasets.layouts.registry import LAYOUTS
from draem.reporting.wording import MASK_RULES, METRICS, UNDEFINED, percent, printable

_RATES = {
    "false_reject_rate": "Good images that score at or above the threshold.",
    "miss_rate": "Defective images that pass.",
    "true_positive_rate": "Defective images that are rejected.",
    "true_negative_rate": "Good images that pass.",
    "accuracy": "Images that are judged rightly, at the threshold that good images alone have set.",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell of the page's table.

    Attributes:
        text: The mean over the seeds in percent, with the spread.
        paper: What the paper reports, in percent; empty if it does not.
        better: Whether the mean is at or above it.
    """

    text: str
    paper: str
    better: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the page's table.

    Attributes:
        category: Its name.
        is_mean: Whether it is the mean over the categories.
        figures: One a column.
        minutes: Mean time of training and testing.
        memory: Most memory of a run.
        reports: By seed, the link to the run's report.
        errors: By seed, what made the run fail.
    """

    category: str
    is_mean: bool
    figures: list[Figure]
    minutes: str
    memory: str
    reports: list[tuple[int, str]]
    errors: list[tuple[int, str]]


def render_page(
    tables: Mapping[str, Sequence[Row]], plan: Plan, results: Sequence[Mapping[str, Any]]
) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined

    environment = Environment(
        loader=PrefixLoader(
            {
                "report": PackageLoader("draem.reporting", "templates"),
                "page": PackageLoader("draem.benchmarking", "templates"),
            }
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = next(iter(tables.values()), ())
    columns = list(rows[0].cells) if rows else []
    meanings = {metric.key: metric.meaning for metric in METRICS} | _RATES
    context = {
        "version": __version__,
        "title": printable(plan.root.name),
        "layout": LAYOUTS[plan.layout].title,
        "columns": [(FIGURES[name], meanings[name]) for name in columns],
        "tables": {name: [_line(row) for row in rows] for name, rows in tables.items()},
        "seeds": sorted({result["seed"] for result in results}),
        "done": sum(result["status"] == "done" for result in results),
        "failed": sum(result["status"] == "failed" for result in results),
        "mask_rule": plan.mask_rule,
        "mask_rule_meaning": MASK_RULES[plan.mask_rule],
        "with_paper": any(
            cell.paper is not None
            for rows in tables.values()
            for row in rows
            for cell in row.cells.values()
        ),
    }
    return environment.get_template("page/benchmark.html.j2").render(context)


def _line(row: Row) -> Line:
    done = [result for result in row.results if result["status"] == "done"]
    seconds = [result["training_seconds"] + result["test_seconds"] for result in done]
    memory = [result["peak_memory_mib"] for result in done if result["peak_memory_mib"]]
    return Line(
        category=printable(row.category),
        is_mean=row.category == MEAN and not row.results,
        figures=[_figure(cell) for cell in row.cells.values()],
        minutes=f"{statistics.mean(seconds) / 60:.1f}" if seconds else UNDEFINED,
        memory=f"{max(memory) / 1024:.1f}" if memory else UNDEFINED,
        reports=[(result["seed"], _link(result)) for result in done],
        errors=[(result["seed"], printable(result["error"])) for result in row.failed],
    )


def _figure(cell: Cell) -> Figure:
    mean, paper = cell.mean, cell.paper
    return Figure(
        cell.text,
        "" if paper is None else percent(paper),
        mean is not None and paper is not None and mean >= paper,
    )


def _link(result: Mapping[str, Any]) -> str:
    run = Run(result["category"], result["preset"], result["seed"])
    return quote((run.path / "report.html").as_posix())
