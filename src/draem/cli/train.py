"""`draem train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from draem.cli.recipe_options import recipe_options
from draem.cli.shared_options import CategoryName, Data, Device, LayoutName, RecipeFile
from draem.cli.terminal import stderr_console, tell
from draem.config import (
    DEFAULT_PRESET,
    DEFAULT_TRACKERS,
    TRACKERS,
    PresetName,
    ResolvedRecipe,
)
from draem.errors import counted


@recipe_options(
    "network.image_size",
    "network.tile",
    "network.overlap",
    "simulation.textures",
    "training.epochs",
    "training.steps",
    "training.minutes",
    "training.batch_size",
    "training.init",
    "training.seed",
    "training.group_by",
    "training.held_out_share",
    "simulation.profile",
    "region_of_interest.mask",
    "training.precision",
    "training.activation_checkpointing",
)
def command(
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    preset: Annotated[
        PresetName | None,
        typer.Option(
            help="pretrained compares features of a pretrained encoder and compact trains small "
            "networks; both take minutes on a CPU. full is the paper's recipe, with held-out "
            "images for a threshold and averaged weights; published is the published code's, with "
            "neither.",
            show_default=DEFAULT_PRESET,
        ),
    ] = None,
    overrides: dict[str, dict[str, Any]],
    category: CategoryName = "",
    layout: LayoutName = "auto",
    device: Device = "auto",
    devices: Annotated[int, typer.Option(help="How many devices share the batch.")] = 1,
    cache: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(
            help="Keep decoded images on the disk; auto: if they would fill much of the memory."
        ),
    ] = "auto",
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the decoded images.", show_default="$DRAEM_CACHE or ~/.cache/draem"
        ),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Where figures, pictures and the model are kept: {', '.join(TRACKERS)}; may be "
            "given again.",
            show_default="tensorboard",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    recipe: RecipeFile = None,
) -> None:
    """Train a model on images of good parts."""
    import draem
    from draem.datasets.layouts.registry import as_category
    from draem.inspection.guarantee import guarantee, images_needed, proviso
    from draem.training.recipe import make_recipe

    lengths = [overrides["training"][name] for name in ("epochs", "steps", "minutes")]
    if sum(length is not None for length in lengths) > 1:
        raise typer.BadParameter("give only one of --epochs, --steps and --minutes")
    stated = any(value is not None for options in overrides.values() for value in options.values())
    earlier = out / "recipe.toml"
    if resume and (not earlier.is_file() or not (preset or recipe or stated)):
        made = None
    else:
        made = make_recipe(preset, recipe or (earlier if resume else None), overrides)
    console = stderr_console()
    result = draem.train(
        as_category(data, category, layout),
        out,
        made,
        resume=resume,
        device=device,
        devices=devices,
        cache=cache,
        cache_dir=cache_dir,
        trackers=tracker or DEFAULT_TRACKERS,
        console=console,
    )
    _warn_of_few_steps(result.recipe, result.steps)
    calibration = result.card.calibration
    if calibration is None:
        tell("No threshold: no image was held out to find one.", err=True)
    else:
        tell(f"Threshold {calibration.threshold:.4g}: {guarantee(calibration)}.", err=True)
        assumed = proviso(cross_fitted=calibration.cross_fitted)
        tell(f"{assumed[0].upper()}{assumed[1:]}.", err=True)
        asked = result.recipe.training.false_reject_rate
        if calibration.false_reject_rate > asked:
            kind = "images" if calibration.groups is None else "groups"
            tell(
                f"A rate of {100 * asked:g}% needs at least {images_needed(asked)} held-out "
                f"{kind}; there were {calibration.parts}.",
                err=True,
            )
    tell(result.model)


def _warn_of_few_steps(recipe: ResolvedRecipe, steps: int) -> None:
    """Say so if the minutes gave far fewer steps than the preset has."""
    from draem.training.recipe import make_recipe

    usual = make_recipe(recipe.preset).training.steps
    if recipe.training.minutes is not None and usual is not None and steps < usual / 2:
        tell(
            f"warning: only {counted(steps, 'step')} fitted into {recipe.training.minutes:g} "
            f"minutes; the preset `{recipe.preset}` has {usual}. Give more time, or leave "
            "--minutes out",
            err=True,
        )
