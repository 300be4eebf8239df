"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
CategoryNames = Annotated[
    list[str] | None, typer.Option("--category", help="May be given again; all if omitted.")
]
MaskRuleName = Annotated[
    Literal["half", "upstream"],
    typer.Option(help="Which mask pixels count: 128 and more of 255, or only 255."),
]
RecipeFile = Annotated[Path | None, typer.Option(help="TOML file with any of the recipe's keys.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the model; one per core by default.")
]
