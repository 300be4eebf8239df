"""`draem simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from draem.cli.recipe_options import recipe_options
from draem.cli.shared_options import CategoryName, Data, LayoutName, RecipeFile
from draem.cli.terminal import tell
from draem.config import DEFAULT_PRESET, PresetName


@recipe_options(
    "network.image_size",
    "network.tile",
    "network.overlap",
    "simulation.textures",
    "simulation.profile",
    "region_of_interest.mask",
)
def command(
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="The picture sheet to write, a PNG file.")],
    preset: Annotated[
        PresetName | None,
        typer.Option(help="Whose simulation to show.", show_default=DEFAULT_PRESET),
    ] = None,
    overrides: dict[str, dict[str, Any]],
    recipe: RecipeFile = None,
    category: CategoryName = "",
    layout: LayoutName = "auto",
    samples: Annotated[int, typer.Option(min=1, max=100, help="How many samples to show.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
) -> None:
    """Show simulated anomalies as `draem train` with the same options makes them."""
    import draem
    from draem.datasets.layouts.registry import as_category
    from draem.files import make_folder
    from draem.imaging.encode import write_png
    from draem.simulation.preview import simulation_sheet
    from draem.training.images import read_roi, resolve_recipe

    chosen = as_category(data, category, layout)
    made = resolve_recipe(draem.make_recipe(preset, recipe, overrides), chosen)
    batch = draem.simulate(
        chosen,
        samples=samples,
        profile=made.simulation,
        textures=made.simulation.textures,
        image_size=made.network.image_size,
        tile_overlap=made.network.overlap,
        seed=seed,
        region_of_interest=read_roi(made, chosen.normal_images()),
    )
    title = f"Simulated anomalies: {made.preset}, {made.simulation.profile}, seed {seed}"
    make_folder(out.parent)
    write_png(out, simulation_sheet(batch, title))
    tell(out)
