"""`draem evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from draem.cli.shared_options import Device, Model, Threads
from draem.cli.terminal import bar, finish_evaluation, stderr_console


def command(
    model: Model,
    data: Annotated[Path, typer.Argument(help="A category in MVTec layout.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and report.html.")],
    mask_rule: Annotated[
        Literal["half", "upstream"],
        typer.Option(help="Which mask pixels count: 128 and more of 255, or only 255."),
    ] = "half",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Measure a model on labelled test images and write a report."""
    from draem.evaluation.evaluator import evaluate
    from draem.files import locked
    from draem.inspection.loading import load

    console = stderr_console()
    inspector = load(model, device=device, threads=threads)
    with locked(out):
        with bar(console, "Evaluating") as progress:
            evaluation = evaluate(inspector, data, mask_rule=mask_rule, progress=progress)
        finish_evaluation(evaluation, out)
