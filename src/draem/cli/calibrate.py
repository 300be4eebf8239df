"""`draem calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draem.cli.shared_options import Device, Model, Threads
from draem.cli.terminal import bar, stderr_console, tell, told_when_stopped
from draem.errors import shown


def command(
    model: Model,
    good_images: Annotated[
        list[Path],
        typer.Argument(
            help="Images of good parts that it was not trained on, and folders of them."
        ),
    ],
    false_reject_rate: Annotated[
        float, typer.Option(help="Share of good parts that may be rejected, such as 0.01.")
    ],
    review_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may fail to pass: sets a second, lower threshold, "
            "from which on a person looks."
        ),
    ] = None,
    pixel_false_positive_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of a good part's pixels that may be marked: sets a threshold for pixels."
        ),
    ] = None,
    group_by: Annotated[
        str,
        typer.Option(
            help="Which images show one part and count once: auto (by name or likeness), image "
            "(each alone), folder, or a regular expression for the file name whose first group, or "
            "whole match, names the part."
        ),
    ] = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Set a model's thresholds from images of good parts, with a guarantee."""
    from draem.inspection.calibrate_model import calibrate_model, told_copies
    from draem.inspection.guarantee import guarantees, remarks

    with (
        told_when_stopped(lambda: f"no threshold was stored in {model}"),
        bar(stderr_console(), "Calibrating") as progress,
    ):
        result = calibrate_model(
            model,
            good_images,
            false_reject_rate=false_reject_rate,
            review_rate=review_rate,
            pixel_false_positive_rate=pixel_false_positive_rate,
            group_by=group_by,
            device=device,
            threads=threads,
            progress=progress,
        )
    for path, reason in result.failures:
        tell(f"warning: {shown(path)}: {shown(reason)}; it took no part", err=True)
    if result.copies:
        tell(f"warning: {told_copies(result.copies)}", err=True)
    if result.grouping:
        tell(result.grouping, err=True)
    found = result.calibration
    for line in (
        *(f"{name} {words}" for name, words in guarantees(found).items()),
        *remarks(found),
    ):
        tell(f"{line[0].upper()}{line[1:]}.")
    tell(result.model)
