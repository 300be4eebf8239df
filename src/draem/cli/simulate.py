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
    preset: Annotated[
        Literal["compact", "full"] | None,
        typer.Option(help="Whose simulation to show.", show_default="compact"),
    ] = None,
    profile: Annotated[
        Literal["paper", "upstream", "varied"] | None,
        typer.Option(
            help="As in the paper, as in the published code, or of many kinds.",
            show_default="preset's",
        ),
    ] = None,
    textures: Annotated[
        Path | None,
        typer.Option(help="Folder of anomaly sources.", show_default="the built-in textures"),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="auto|N|HxW", help="Network input in pixels.", show_default="preset's"
        ),
    ] = None,
    roi: Annotated[
        Path | None,
        typer.Option(help="Mask of the part to inspect, white there.", show_default="everything"),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of tiles to cut images into.", show_default="none")
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="Of neighbouring tiles, in pixels.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with any of the recipe's keys.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=100, help="How many samples to show.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
) -> None:
    """Show simulated anomalies as `draem train` with the same options makes them."""
    import draem
    from draem.datasets.layout import read_normal_images
    from draem.files import make_folder
    from draem.imaging.encode import write_png
    from draem.simulation.preview_sheet import simulation_sheet
    from draem.training.images import read_roi, without_auto
    from draem.training.recipe import asked_input, fixed_image_size, simulation_profile

    made = draem.make_recipe(
        preset,
        recipe,
        {
            "network": asked_input(image_size, tile, overlap),
            "simulation": {"profile": profile, "textures": str(textures) if textures else None},
            "region_of_interest": {"mask": str(roi) if roi else None},
        },
    )
    made = without_auto(made, data)
    batch = draem.simulate(
        data,
        samples=samples,
        profile=simulation_profile(made),
        textures=made.simulation.textures,
        image_size=fixed_image_size(made),
        tile_overlap=made.network.overlap,
        seed=seed,
        region_of_interest=read_roi(made, read_normal_images(data)),
    )
    title = f"Simulated anomalies: {made.preset}, {made.simulation.profile}, seed {seed}"
    make_folder(out.parent)
    write_png(out, simulation_sheet(batch, title))
    typer.echo(out)
