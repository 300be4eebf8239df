"""`draem export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from draem.cli.terminal import stderr_console, tell, told_when_stopped


class To(StrEnum):
    """The formats, as words for the command line."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    MNN = "mnn"


def command(
    model: Annotated[Path, typer.Argument(help="A .safetensors model, or the folder of a run.")],
    to: Annotated[To, typer.Option(help="The runtime that it is for.")] = To.ONNX,
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write: .onnx, .xml or .mnn; next to the model by default."),
    ] = None,
    reconstruction: Annotated[
        bool, typer.Option("--reconstruction", help="Let it give the reconstruction too.")
    ] = False,
) -> None:
    """Write a model that runs without torch, and check that it says the same."""
    import draem

    console = stderr_console()
    with (
        told_when_stopped(lambda: "nothing was exported"),
        console.status("Reading") as status,
    ):
        made = draem.export(
            model,
            to.value,
            out,
            reconstruction=reconstruction,
            progress=lambda what: status.update(what),
        )
    console.print(
        f"maps and scores of {made.images} pictures differ by at most "
        f"{made.largest_difference:.1e} from the model's"
    )
    tell(made.path)
