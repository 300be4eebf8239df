"""`draem evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from draem.cli.terminal import bar, percent, stderr_console


def command(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder of a run.")],
    data: Annotated[Path, typer.Argument(help="A category in MVTec layout.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and report.html.")],
    mask_rule: Annotated[
        Literal["half", "upstream"],
        typer.Option(help="Which mask pixels count: 128 and more of 255, or only 255."),
    ] = "half",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> None:
    """Measure a model on labelled test images and write a report."""
    from draem.evaluation.evaluate import evaluate
    from draem.files import make_folder
    from draem.inspection.inspector import load
    from draem.reporting import write_metrics, write_report

    console = stderr_console()
    inspector = load(model, device=device)
    make_folder(out)
    with bar(console, "Evaluating") as progress:
        evaluation = evaluate(inspector, data, mask_rule=mask_rule, progress=progress)
    for name, value in evaluation.metrics.items():
        typer.echo(f"{name:<13} {percent(value):>6}")
    write_metrics(evaluation, out)
    typer.echo(write_report(evaluation, out))
