"""`draem train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from draem.cli.terminal import stderr_console


def command(
    data: Annotated[
        Path,
        typer.Argument(help="A category in MVTec layout (train/good), or a folder of good images."),
    ],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    preset: Annotated[
        Literal["compact", "full"] | None,
        typer.Option(
            help="compact trains in minutes on a CPU; full is the paper's.",
            show_default="compact",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="auto|N|HxW",
            help="Network input in pixels, multiples of 32; auto keeps the images' proportions.",
            show_default="preset's",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of square tiles that large images are cut into instead of being resized.",
            show_default="none",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="Of neighbouring tiles, in pixels.", show_default="an eighth of a tile"),
    ] = None,
    textures: Annotated[
        Path | None,
        typer.Option(help="Folder of anomaly sources.", show_default="the built-in textures"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Length in passes over the images.", show_default="preset's")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Length in training steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length in minutes.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step.", show_default="preset's")
    ] = None,
    init: Annotated[
        Literal["warm", "scratch"] | None,
        typer.Option(
            help="Start from the weights that come with draem (compact), or from random ones.",
            show_default="preset's",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides everything random.", show_default="0")
    ] = None,
    profile: Annotated[
        Literal["paper", "upstream", "varied"] | None,
        typer.Option(
            help="Simulation as in the paper, as in the published code, or of many kinds.",
            show_default="preset's",
        ),
    ] = None,
    roi: Annotated[
        Path | None,
        typer.Option(help="Mask of the part to inspect, white there.", show_default="everything"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    devices: Annotated[int, typer.Option(help="How many devices share the batch.")] = 1,
    precision: Annotated[
        Literal["auto", "32", "bf16", "16"] | None,
        typer.Option(help="Arithmetic of the networks.", show_default="auto"),
    ] = None,
    activation_checkpointing: Annotated[
        bool, typer.Option("--activation-checkpointing", help="Half the memory, slower.")
    ] = False,
    cache: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(
            help="Keep decoded images on the disk; auto: where they would fill much of the memory."
        ),
    ] = "auto",
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Where they are kept.", show_default="$DRAEM_CACHE or ~/.cache/draem"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with any of the recipe's keys.")
    ] = None,
) -> None:
    """Train a model on images of good parts."""
    import draem
    from draem.inspection.calibration import guarantee, images_needed
    from draem.training.recipe import asked_input, make_recipe

    lengths = {"epochs": epochs, "steps": steps, "minutes": minutes}
    if sum(value is not None for value in lengths.values()) > 1:
        raise typer.BadParameter("give only one of --epochs, --steps and --minutes")
    overrides: dict[str, dict[str, object]] = {
        "network": asked_input(image_size, tile, overlap),
        "simulation": {
            "profile": profile,
            "textures": str(textures.absolute()) if textures else None,
        },
        "training": {
            **lengths,
            "init": init,
            "batch_size": batch_size,
            "seed": seed,
            "precision": precision,
            "activation_checkpointing": activation_checkpointing or None,
        },
        "region_of_interest": {"mask": str(roi.absolute()) if roi else None},
    }
    stated = any(value is not None for options in overrides.values() for value in options.values())
    earlier = out / "recipe.toml"
    if resume and (not earlier.is_file() or not (preset or recipe or stated)):
        made = None
    else:
        made = make_recipe(preset, recipe or (earlier if resume else None), overrides)
    console = stderr_console()
    result = draem.train(
        data,
        out,
        made,
        resume=resume,
        device=device,
        devices=devices,
        cache=cache,
        cache_dir=cache_dir,
        console=console,
    )
    calibration = result.card.calibration
    if calibration is None:
        typer.echo("No threshold: no image was held out to find one.", err=True)
    else:
        typer.echo(f"Threshold {calibration.threshold:.4g}: {guarantee(calibration)}.", err=True)
        asked = result.card.recipe["training"]["false_reject_rate"]
        if calibration.false_reject_rate > asked:
            typer.echo(
                f"A rate of {100 * asked:g}% needs at least {images_needed(asked)} held-out "
                f"images; there were {calibration.images}.",
                err=True,
            )
    typer.echo(result.model)
