"""`draem demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draem.cli.shared_options import Device
from draem.cli.terminal import bar, finish_evaluation, stderr_console

IMAGE_SIZE = (256, 256)


def command(
    out: Annotated[Path, typer.Option(help="Folder for images, model and report.")] = Path(
        "draem-demo"
    ),
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length of the training.", show_default="the preset's")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
    device: Device = "auto",
) -> None:
    """Render a small product, train on its good parts, and report the defects found."""
    import draem
    from draem.demo.product_dataset import render_product
    from draem.errors import RunExistsError, TrainingInterrupted
    from draem.files import make_folder
    from draem.networks.devices import resolve_device

    recipe = draem.make_recipe(
        "pretrained",
        overrides={
            # Twice the rendered size: what is small stands out more.
            "network": {"image_size": IMAGE_SIZE},
            "training": {"steps": steps, "seed": seed},
        },
    )
    resolve_device(device)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunExistsError(
            "the demo needs a folder of its own, and this one is not empty",
            path=out,
            hint="Give another one with --out, or delete it",
        )
    console = stderr_console()
    data, run = make_folder(out) / "product", out / "run"
    with bar(console, "Rendering parts") as progress:
        render_product(data, seed=seed, progress=progress)
    try:
        result = draem.train(data, run, recipe, device=device, console=console)
    except TrainingInterrupted as error:
        raise TrainingInterrupted(
            error.problem, path=run, hint=f"Go on with: draem train {data} --out {run} --resume"
        ) from error
    with bar(console, "Evaluating") as progress:
        evaluation = draem.evaluate(result.model, data, device=device, progress=progress)
    finish_evaluation(evaluation, out, title="DRAEM on a rendered product")
