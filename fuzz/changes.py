"""Changes to valid documents, so that mutation gets past the parser to what checks the values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e300, -1e300, float("nan"), float("inf")),
    *(10**9, 10**12, 2**63, 10**400, "", "auto", "a" * 5000, "\x1b[31m", "\ud800", "../x", "1e9"),
    *([], [[]], {}, [0, 0], [-1, 1], [1e300] * 3, {"": {}}, {"a": None}, [None] * 1000),
)
_MOST_CHANGES = 4
_STOP = 32
"""A byte below it ends the way down, so that whole branches are replaced too."""


def changed(document: dict[str, Any], data: bytes) -> dict[str, Any]:
    """A document with up to four values replaced, removed or added, as the bytes say."""
    document = copy.deepcopy(document)
    numbers = iter(data)
    for _ in range(_MOST_CHANGES):
        try:
            _change(document, numbers)
        except StopIteration:
            break
    return document


def _change(document: dict[str, Any], numbers: Iterator[int]) -> None:
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = keys[next(numbers) % len(keys)]
        deeper = place[key]
        if isinstance(deeper, dict | list) and deeper and next(numbers) >= _STOP:
            place = deeper
            continue
        kind = next(numbers)
        if kind < _STOP and isinstance(place, dict):
            del place[key]
        elif kind < 2 * _STOP and isinstance(place, dict):
            place[f"{key}{kind}"] = deeper
        else:
            place[key] = copy.deepcopy(STRANGE[kind % len(STRANGE)])
        return
