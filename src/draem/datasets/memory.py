"""How much memory this process can have: the machine's, within the limits of its container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NO_LIMIT = 2**60
"""Version 1 states a number near 2**63 if there is no limit."""


class _Names(NamedTuple):
    """What the files of a control group are called in one version of cgroups."""

    limits: tuple[str, ...]
    used: str
    caches: tuple[str, ...]


_V1 = _Names(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
# Above memory.high the kernel slows a process down until it hardly moves.
_V2 = _Names(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be had without swapping; None if the system does not tell.

    The least of what the machine has left and what each control group (cgroup v1 or v2) of this
    process has left. The kernel frees memory that caches files at need, so that counts as left.

    Args:
        root: Where the file system begins.

    Source:
        https://docs.kernel.org/admin-guide/cgroup-v2.html#memory and
        https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
    """
    machine = _numbers(root / "proc/meminfo").get("MemAvailable:")
    left = [] if machine is None else [1024 * machine]
    for folder, names in _groups(root):
        limits = [limit for name in names.limits if (limit := _number(folder / name)) is not None]
        used = _number(folder / names.used)
        if limits and min(limits) < _NO_LIMIT and used is not None:
            held = _numbers(folder / "memory.stat")
            caches = sum(held.get(name, 0) for name in names.caches)
            left.append(max(0, min(limits) - max(0, used - caches)))
    return min(left, default=None)


def _groups(root: Path) -> Iterator[tuple[Path, _Names]]:
    """The folder of each control group that limits this process's memory: its own and all above."""
    own = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup")]
    paths = {name: path for _, controllers, path in own for name in controllers.split(",")}
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, described = line.partition(" - ")
        kind, _, options = described.split(" ", 2)
        if kind == "cgroup2":
            names, path = _V2, paths.get("")
        elif kind == "cgroup" and "memory" in options.split(","):
            names, path = _V1, paths.get("memory")
        else:
            continue
        _, _, _, seen, place, *_ = mount.split(" ")
        if path is not None:
            # A container may see its own group alone, as the root, and still be told the path
            # that it has on the machine.
            inside = Path(path.removeprefix(seen.rstrip("/")).strip("/"))
            for each in (inside, *inside.parents):
                yield root / place.strip("/") / each, names


def _number(path: Path) -> int | None:
    """The number that a file states; None if it states none, such as `max`."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else None


def _numbers(path: Path) -> dict[str, int]:
    """Names and numbers of a file that states one of each in a line."""
    rows = [line.split() for line in _lines(path)]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []
