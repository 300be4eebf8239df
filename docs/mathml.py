"""Turns the formulas of the docs into MathML when the site is built, so that pages need no script.

Markdown would take a formula for a block of HTML or for emphasis, so it sees a token instead.
"""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_FORMULA = re.compile(
    r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?!\s)(?P<inline>[^$]+?)(?<!\s)\$(?![\w$])", re.DOTALL
)
_formulas: list[str] = []


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tokens in the place of formulas; a hook of mkdocs."""
    parts = _CODE.split(markdown)
    return "".join(p if _CODE.fullmatch(p) else _FORMULA.sub(_token, p) for p in parts)


def on_page_content(html: str, **_: Any) -> str:
    """Put the formulas back; a hook of mkdocs."""
    return re.sub(r"formula-token-(\d+)\.", lambda found: _formulas[int(found[1])], html)


def _token(found: re.Match[str]) -> str:
    block, inline = found["block"], found["inline"]
    _formulas.append(convert(block.strip(), display="block") if block else convert(inline))
    return f"formula-token-{len(_formulas) - 1}."
