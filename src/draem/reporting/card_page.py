"""A model card for people: the README.md of a model that is published or handed over."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from draem.config import told_size
from draem.inspection.guarantee import guarantees, remarks
from draem.model_card import ModelCard

_PACKAGES = {
    ".safetensors": "draem[train]",
    ".xml": "draem[openvino]",
    ".mnn": "draem[mnn]",
}
"""What must be installed to run a file, where it is more than `draem`."""


def card_page(card: ModelCard, file: str | Path) -> str:
    """A model card in Markdown, with the metadata block that the Hugging Face Hub reads.

    It says what the model file says, and leaves a line to fill in where that is not enough: what
    the parts are, and under which licence the model may be used.

    Args:
        card: Of the model.
        file: The model file.

    Source:
        Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
    """
    environment = Environment(
        loader=PackageLoader("draem.reporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML
        keep_trailing_newline=True,
    )
    name = Path(file).name
    height, width = card.network.image_size
    calibration = card.calibration
    return environment.get_template("card.md.j2").render(
        card=card,
        file=name,
        package=_PACKAGES.get(Path(name).suffix.lower(), "draem"),
        size=f"{width}x{height}",
        widths=told_size(card.network),
        thresholds={} if calibration is None else guarantees(calibration),
        remarks=[] if calibration is None else remarks(calibration),
        recipe=None
        if card.recipe is None
        else json.dumps(card.recipe.model_dump(mode="json", exclude_none=True), indent=2),
    )
