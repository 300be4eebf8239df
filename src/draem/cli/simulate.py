"""`draem simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def command(
    data: Annotated[
        Path, typer.Argument(help="A category in MVTec layout, or a folder of good images.")
    ],
    out: Annotated[Path, typer.Option(help="The picture sheet to write, a PNG file.")],
    textures: Annotated[
        Path | None,
        typer.Option(help="Folder of anomaly sources.", show_default="the built-in textures"),
    ] = None,
    profile: Annotated[
        Literal["paper", "upstream"],
        typer.Option(help="As in the paper or as in the published code."),
    ] = "upstream",
    image_size: Annotated[
        str, typer.Option(metavar="N|HxW", help="Network input in pixels.")
    ] = "256",
    samples: Annotated[int, typer.Option(min=1, max=100, help="How many samples to show.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
) -> None:
    """Show simulated anomalies as the network sees them."""
    import draem
    from draem.imaging.encode import write_png
    from draem.training.recipe import parse_image_size

    batch = draem.simulate(
        data,
        samples=samples,
        profile=profile,
        textures=textures,
        image_size=parse_image_size(image_size),
        seed=seed,
    )
    title = f"Simulated anomalies, profile {profile}, seed {seed}"
    from draem.simulation.sheet import simulation_sheet

    write_png(out, simulation_sheet(batch, title))
    typer.echo(out)
