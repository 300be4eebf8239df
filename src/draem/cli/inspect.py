"""`draem inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draem.cli.terminal import bar, stderr_console

EXIT_SOME_FAILED = 1
_NOT_TRAINED_ON_TILES = (
    "warning: this model was trained on resized images; its threshold promises nothing for tiles. "
    "Train with --tile for one that does."
)


def command(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder of a run.")],
    images: Annotated[list[Path], typer.Argument(help="Images and folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl, maps and overlays.")],
    tile: Annotated[
        int | None,
        typer.Option(help="Side of tiles at the images' own resolution; the model's input."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Of neighbouring tiles, in pixels.", show_default="model's")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the model; one a core by default.")
    ] = None,
) -> None:
    """Score images and mark their defects."""
    from draem.datasets.layout import gather_images
    from draem.inspection.folder import inspect_files, without_results
    from draem.inspection.inspector import load

    console = stderr_console()
    paths = without_results(gather_images(images), out)
    inspector = load(model, device=device, threads=threads)
    if tile is not None or overlap is not None:
        resized = inspector.card.tiling is None
        inspector = inspector.with_tiles(tile, overlap)
        if resized and inspector.threshold is not None:
            typer.echo(_NOT_TRAINED_ON_TILES, err=True)
    with bar(console, "Inspecting") as progress:
        summary = inspect_files(inspector, paths, out, progress=progress)
    for path, message in summary.failures:
        typer.echo(f"error: {path}: {message}", err=True)
    decided = "no threshold" if inspector.threshold is None else f"{summary.anomalous} anomalous"
    typer.echo(
        f"{summary.images} images: {decided}, {len(summary.failures)} could not be read", err=True
    )
    typer.echo(summary.results)
    if summary.failures:
        raise typer.Exit(EXIT_SOME_FAILED)
