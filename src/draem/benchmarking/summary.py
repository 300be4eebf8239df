"""Tables of a benchmark: by category and in the mean, over the seeds."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from draem.benchmarking.paper import PAPER, PAPER_MEAN
from draem.reporting.wording import METRICS, UNDEFINED, percent

MEAN = "mean"
RATES = {
    "false_reject_rate": "Good rejected",
    "miss_rate": "Defective missed",
    "true_positive_rate": "True positives",
    "true_negative_rate": "True negatives",
    "accuracy": "Accuracy",
}
FIGURES = {metric.key: metric.name for metric in METRICS} | RATES
"""What a table may show, and how it is called."""
SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro_0.30", "false_reject_rate", "miss_rate")
SHOWN_OF = {"dagm": ("image_auroc", "true_positive_rate", "true_negative_rate", "accuracy")}
"""What is shown of a layout if nothing else is asked for: what its papers report."""

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of one category, over the seeds.

    Attributes:
        values: As shares in [0, 1], one a seed.
        paper: What the paper reports; None if it does not.
    """

    values: tuple[float, ...]
    paper: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None if there is nothing."""
        return statistics.mean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Half of the distance from the lowest to the highest; None of fewer than two seeds."""
        return (max(self.values) - min(self.values)) / 2 if len(self.values) > 1 else None

    @property
    def text(self) -> str:
        """In percent, with the spread."""
        spread = self.spread
        return percent(self.mean) + (f" ±{100 * spread:.1f}" if spread is not None else "")


@dataclass(frozen=True, slots=True)
class Row:
    """One category under one preset.

    Attributes:
        category: Its name, or `MEAN`.
        cells: By figure, in the order asked for.
        results: The runs.
    """

    category: str
    cells: Mapping[str, Cell]
    results: tuple[Result, ...] = ()

    @property
    def failed(self) -> tuple[Result, ...]:
        """The runs that ended with an error."""
        return tuple(result for result in self.results if result["status"] == "failed")


def shown_figures(layout: str, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The figures of a table, in order."""
    return tuple(asked) or SHOWN_OF.get(layout, SHOWN)


def summarise(
    results: Sequence[Result], layout: str, figures: Sequence[str]
) -> dict[str, list[Row]]:
    """By preset, a row a category and one of the mean over the categories.

    The mean stands only where every category has the figure. Each of its values is of one seed.
    """
    tables: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        tables.setdefault(result["preset"], {}).setdefault(result["category"], []).append(result)
    return {
        preset: [
            *(_row(name, runs, layout, figures) for name, runs in categories.items()),
            _mean_row(list(categories.values()), layout, figures),
        ]
        for preset, categories in tables.items()
    }


def _row(category: str, runs: list[Result], layout: str, figures: Sequence[str]) -> Row:
    paper = PAPER.get(layout, {}).get(category, {})
    cells = {
        name: Cell(
            tuple(run["figures"][name] for run in runs if name in run.get("figures", {})),
            paper.get(name),
        )
        for name in figures
    }
    return Row(category, cells, tuple(runs))


def _mean_row(categories: list[list[Result]], layout: str, figures: Sequence[str]) -> Row:
    seeds = sorted({run["seed"] for runs in categories for run in runs})
    names = [runs[0]["category"] for runs in categories]
    cells = {}
    for name in figures:
        values = []
        for seed in seeds:
            own = [
                run["figures"][name]
                for runs in categories
                for run in runs
                if run["seed"] == seed and name in run.get("figures", {})
            ]
            if len(own) == len(categories):
                values.append(statistics.mean(own))
        cells[name] = Cell(tuple(values), _paper_mean(layout, names, name))
    return Row(MEAN, cells)


def _paper_mean(layout: str, categories: Sequence[str], figure: str) -> float | None:
    """The mean of what the paper reports of just these categories; None if it does not."""
    known = PAPER.get(layout, {})
    if categories and all(figure in known.get(name, {}) for name in categories):
        return statistics.mean(known[name][figure] for name in categories)
    count, means = PAPER_MEAN.get(layout, (0, {}))
    return means.get(figure) if len(categories) == count else None


def as_markdown(tables: Mapping[str, Sequence[Row]]) -> str:
    """Tables in Markdown, one a preset; the paper's figures in brackets."""
    parts = []
    for preset, rows in tables.items():
        names = list(rows[0].cells)
        lines = [
            f"## `{preset}`\n",
            "| | " + " | ".join(FIGURES[name] for name in names) + " |",
            "|---" * (len(names) + 1) + "|",
        ]
        for row in rows:
            texts = [_with_paper(cell, " ({})") for cell in row.cells.values()]
            lines.append(f"| {_escaped(row.category, '|', chr(92))} | " + " | ".join(texts) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def as_latex(tables: Mapping[str, Sequence[Row]]) -> str:
    """Tables in LaTeX (booktabs), one a preset."""
    parts = []
    for preset, rows in tables.items():
        names = list(rows[0].cells)
        head = " & ".join(["", *(FIGURES[name] for name in names)])
        lines = [
            f"% {preset}; mean over the seeds, the paper's figure in brackets",
            rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
            rf"\toprule {head} \\ \midrule",
        ]
        for row in rows:
            texts = [
                _with_paper(cell, " ({})").replace("±", r"$\pm$").replace(UNDEFINED, "--")
                for cell in row.cells.values()
            ]
            rule = r"\midrule " if row.category == MEAN else ""
            name = _escaped(row.category, "\\", "_", "&", "%", "#", "$", "{", "}")
            lines.append(rule + " & ".join([name, *texts]) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def as_csv(results: Sequence[Result]) -> str:
    """A line a run, with every figure as a share in [0, 1]."""
    figures = sorted({name for result in results for name in result.get("figures", {})})
    facts = ("category", "preset", "seed", "status")
    costs = ("training_seconds", "test_seconds", "peak_memory_mib")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts, *figures, *costs, "error"])
    for result in results:
        found = result.get("figures", {})
        writer.writerow(
            [
                *(result[name] for name in facts),
                *(found.get(name, "") for name in figures),
                *(result.get(name, "") for name in (*costs, "error")),
            ]
        )
    return text.getvalue()


def _with_paper(cell: Cell, form: str) -> str:
    return cell.text + (form.format(percent(cell.paper)) if cell.paper is not None else "")


def _escaped(text: str, *characters: str) -> str:
    return "".join(f"\\{letter}" if letter in characters else letter for letter in text)
