"""Writes the guide's table of options from `draem.config`: python docs/options.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from draem.config import SECTIONS, PresetName
from draem.training.recipe import make_recipe

GUIDE = Path(__file__).parent / "guide.md"
BEGIN, END = "<!-- options: begin -->\n", "<!-- options: end -->\n"


def table() -> str:
    """One table per section of a recipe: key, each preset's value and the help."""
    names = get_args(PresetName)
    presets = [make_recipe(name) for name in names]
    parts = []
    for section, kind in SECTIONS.items():
        rows = [
            f"**`[{section}]`**\n",
            f"| key | {' | '.join(f'`{name}`' for name in names)} | meaning |",
            "|---" * (len(names) + 2) + "|",
        ]
        for key, field in kind.model_fields.items():
            values = [_written(getattr(getattr(recipe, section), key)) for recipe in presets]
            rows.append(f"| `{key}` | {' | '.join(values)} | {field.description} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _written(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def with_table(guide: str) -> str:
    """The guide's text with the table between its markers."""
    before, rest = guide.split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    GUIDE.write_text(with_table(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
