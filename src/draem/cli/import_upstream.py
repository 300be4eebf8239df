"""`draem import-upstream`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draem.cli.terminal import tell


def command(
    reconstructive: Annotated[Path, typer.Argument(help="The published NAME.pckl.")],
    discriminative: Annotated[Path, typer.Argument(help="The published NAME_seg.pckl.")],
    out: Annotated[Path, typer.Option(help="The model file to write, MODEL.safetensors.")],
    image_size: Annotated[
        str, typer.Option(metavar="N|HxW", help="Network input in pixels.")
    ] = "256",
) -> None:
    """Convert a checkpoint pair of the published DRAEM code."""
    import draem
    from draem.config import parse_image_size

    draem.import_upstream(
        reconstructive, discriminative, out, image_size=parse_image_size(image_size)
    )
    tell(out)
