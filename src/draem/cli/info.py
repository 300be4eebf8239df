"""`draem info`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from draem.cli.shared_options import Model
from draem.cli.terminal import tell
from draem.errors import counted, shown


def command(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_card: Annotated[
        bool,
        typer.Option("--card", help="Print a model card in Markdown, to publish with the file."),
    ] = False,
) -> None:
    """Show what a model file says of itself."""
    from draem.config import told_size
    from draem.imaging.roi import decode_roi
    from draem.inspection.guarantee import guarantees, remarks
    from draem.inspection.loading import check_kind, model_path
    from draem.model_file import read_verified_card

    path = model_path(model)
    check_kind(path)
    card = read_verified_card(path)
    if as_card:
        from draem.reporting.card_page import card_page

        tell(card_page(card, path))
        return
    if as_json:
        tell(json.dumps(card.model_dump(mode="json"), indent=2))
        return
    network = card.network
    height, width = network.image_size
    facts: dict[str, object] = {
        "preset": card.preset,
        "network": network.architecture,
        "widths": told_size(network),
        "image size": f"{height}x{width} (height x width), "
        + (
            f"tiles that overlap by {network.overlap} pixels"
            if network.tile
            else f"{network.interpolation} resize"
        ),
        "mean filter": f"{network.smoothing} at 256 pixels",
        "fingerprint": card.fingerprint,
    }
    if card.region_of_interest:
        share = decode_roi(card.region_of_interest).mean()
        facts["region of interest"] = f"{100 * share:.3g}% of the image"
    if card.training_set:
        facts["trained on"] = (
            f"{counted(card.training_set.images, 'image')}, "
            f"fingerprint {card.training_set.fingerprint}"
        )
    if card.calibration:
        facts |= guarantees(card.calibration)
        facts["guarantee"] = "; ".join(remarks(card.calibration))
    else:
        facts["threshold"] = "none"
    facts |= {f"figure {name}": f"{value:.4f}" for name, value in card.figures.items()}
    recipe = {} if card.recipe is None else card.recipe.model_dump(mode="json", exclude_none=True)
    for section, options in recipe.items():
        if isinstance(options, dict):
            facts |= {f"{section}.{key}": value for key, value in options.items()}
    facts |= {f"made with {name}": version for name, version in card.versions.items()}
    widest = max(map(len, facts))
    for name, value in facts.items():
        tell(f"{name:<{widest}}  {shown(value)}")
