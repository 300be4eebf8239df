"""`draem demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draem.cli.terminal import bar, percent, stderr_console

MINUTES = 3.0
IMAGE_SIZE = (128, 128)


def command(
    out: Annotated[Path, typer.Option(help="Folder for images, model and report.")] = Path(
        "draem-demo"
    ),
    minutes: Annotated[float, typer.Option(help="Training time.")] = MINUTES,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> None:
    """Render a small product, train on its good parts, and report the defects found."""
    import draem
    from draem.datasets.product import render_product
    from draem.errors import RunExistsError
    from draem.evaluation.evaluate import evaluate
    from draem.files import make_folder
    from draem.reporting import write_metrics, write_report
    from draem.training.recipe import make_recipe

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunExistsError(
            "the demo needs a folder of its own, and this one is not empty",
            path=out,
            hint="Give another one with --out, or delete it",
        )
    console = stderr_console()
    data = make_folder(out) / "product"
    with bar(console, "Rendering parts") as progress:
        render_product(data, seed=seed, progress=progress)
    recipe = make_recipe(
        "compact",
        overrides={
            "network": {"image_size": IMAGE_SIZE},
            "training": {"minutes": minutes, "seed": seed},
        },
    )
    result = draem.train(data, out / "run", recipe, device=device, console=console)
    with bar(console, "Evaluating") as progress:
        evaluation = evaluate(result.model, data, device=device, progress=progress)
    for name, value in evaluation.metrics.items():
        typer.echo(f"{name:<13} {percent(value):>6}")
    write_metrics(evaluation, out)
    typer.echo(write_report(evaluation, out, title="DRAEM on a rendered product").resolve())
