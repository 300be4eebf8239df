"""`draem inspect`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draem.cli.shared_options import Device, Model, Threads
from draem.cli.terminal import bar, stderr_console, tell, told_when_stopped
from draem.errors import counted, shown

if TYPE_CHECKING:
    from draem.inspection.folder import Summary
    from draem.model_card import Calibration

EXIT_SOME_FAILED = 1
_NOT_TRAINED_ON_TILES = (
    "warning: this model was trained on resized images; its threshold promises nothing for tiles. "
    "Train with --tile for one that does."
)


def command(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Images and folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl, maps and overlays.")],
    min_area: Annotated[
        int,
        typer.Option(min=0, help="List no regions below so many pixels; the decision is the same."),
    ] = 0,
    roi: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the part to inspect, white there; within the model's own.",
            show_default="the model's own",
        ),
    ] = None,
    coco: Annotated[
        bool, typer.Option("--coco", help="Also write the regions as coco.json.")
    ] = False,
    maps: Annotated[bool, typer.Option(help="Write anomaly maps.")] = True,
    overlays: Annotated[bool, typer.Option(help="Write overlays.")] = True,
    tile: Annotated[
        int | None,
        typer.Option(help="Side of tiles at the images' own resolution; the model's input."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Of neighbouring tiles, in pixels.", show_default="model's")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Inspect on a Ray cluster of this address, local or auto, and write Parquet.",
            show_default="off",
        ),
    ] = None,
) -> None:
    """Score images and mark their defects."""
    if ray is not None:
        _on_cluster(model, images, out, min_area, threads, ray, (roi, coco, tile, overlap))
        return
    from draem.datasets.mvtec import gather_images
    from draem.imaging.roi import check_roi_file
    from draem.inspection.folder import inspect_files
    from draem.inspection.loading import load

    console = stderr_console()
    paths = gather_images(images, log=True)
    if roi is not None:
        check_roi_file(roi, paths)
    inspector = load(
        model, device=device, threads=threads, min_area=min_area, region_of_interest=roi
    )
    if tile is not None or overlap is not None:
        resized = inspector.card.network.tile is None
        inspector = inspector.with_tiles(tile, overlap)
        if resized and inspector.threshold is not None:
            tell(_NOT_TRAINED_ON_TILES, err=True)
    if roi is not None and inspector.threshold is not None:
        console.print(
            "The threshold was found without this region of interest. Scores are not higher within "
            "it, so that no more good parts are rejected; defects may be missed that a model "
            "trained with it would find."
        )
    done = 0

    def told() -> str:
        return f"{done} of {counted(len(paths), 'image')} inspected; results are in {out}"

    with told_when_stopped(told), bar(console, "Inspecting") as progress:

        def count(images: int, total: int) -> None:
            nonlocal done
            done = images
            progress(images, total)

        summary = inspect_files(
            inspector, paths, out, coco=coco, maps=maps, overlays=overlays, progress=count
        )
    for path, message in summary.failures:
        tell(f"error: {shown(path)}: {shown(message)}", err=True)
    tell(
        f"{counted(summary.images, 'image')}: {_decided(summary, inspector.card.calibration)}, "
        f"{len(summary.failures)} could not be read",
        err=True,
    )
    tell(summary.results)
    if summary.failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def _on_cluster(
    model: Path,
    images: list[Path],
    out: Path,
    min_area: int,
    threads: int | None,
    address: str,
    refused: tuple[object, ...],
) -> None:
    if any(refused):
        raise typer.BadParameter("--ray takes no --roi, --coco, --tile and --overlap")
    from draem.datasets.mvtec import gather_images
    from draem.distributed import inspect_to_parquet

    # A path swallows one of two slashes.
    texts = [re.sub(r"^(\w+):/+", r"\1://", str(image)) for image in images]
    urls = any("://" in text for text in texts)
    found = inspect_to_parquet(
        texts if urls else gather_images(images, log=True),
        model,
        out,
        address=address,
        threads=threads or 1,
        min_area=min_area,
    )
    tell(
        f"{counted(found.images, 'image')}: {found.anomalous} anomalous, "
        f"{found.failures} could not be read",
        err=True,
    )
    tell(found.results)
    if found.failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def _decided(summary: Summary, calibration: Calibration | None) -> str:
    if calibration is None:
        return "no threshold"
    if calibration.review_threshold is None:
        return f"{summary.anomalous} anomalous"
    return f"{summary.passed} pass, {summary.review} review, {summary.anomalous} reject"
