"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(help="A model file, or the folder of a run.")]
Data = Annotated[
    Path,
    typer.Argument(
        help="One category of a data set in any known layout, or a folder of good images."
    ),
]
CategoryName = Annotated[
    str, typer.Option("--category", help="Which one, if the data set has several.")
]
LayoutName = Annotated[
    str,
    typer.Option("--layout", help="The data set's layout, if it is not to be recognised."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the model; one per core by default.")
]
