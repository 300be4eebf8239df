"""`draem evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draem.cli.shared_options import (
    CategoryName,
    Device,
    LayoutName,
    MaskRuleName,
    Model,
    Threads,
)
from draem.cli.terminal import bar, finish_evaluation, stderr_console


def command(
    model: Model,
    data: Annotated[Path, typer.Argument(help="One category of a data set in any known layout.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and report.html.")],
    mask_rule: MaskRuleName = "half",
    category: CategoryName = "",
    layout: LayoutName = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Measure a model on labelled test images and write a report."""
    from draem.datasets.layouts.registry import as_category
    from draem.evaluation.evaluator import evaluate
    from draem.files import locked
    from draem.inspection.loading import load

    console = stderr_console()
    chosen = as_category(data, category, layout)
    inspector = load(model, device=device, threads=threads)
    with locked(out):
        with bar(console, "Evaluating") as progress:
            evaluation = evaluate(inspector, chosen, mask_rule=mask_rule, progress=progress)
        finish_evaluation(evaluation, out, chosen.name)
