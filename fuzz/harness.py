r"""What a fuzz target is, where targets are found, and what counts as a finding.

A target is one function that takes bytes, registered by name::

    @target("recipe", seeds=lambda: [b"[training]\nsteps = 10\n"])
    def read_recipe(data: bytes) -> None:
        ...

It may return or raise a `DraemError`. Any other exception, more than `SECONDS` per input or more
than `memory_mb` is a finding.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from draem.errors import DraemError

SECONDS = 5
CORPUS = Path(__file__).parents[1] / "tests" / "fuzz_corpus"
"""`CORPUS / NAME` keeps the inputs that once found something; the tests run them all."""

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Target:
    """A function under test.

    Attributes:
        run: Takes the bytes of one input.
        seeds: Makes the valid inputs that fuzzing starts from.
        memory_mb: Most memory of the whole process, in MiB.
        max_bytes: Longest input.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    memory_mb: int
    max_bytes: int


_targets: dict[str, Target] = {}


def target(
    name: str,
    seeds: Callable[[], Iterable[bytes]],
    memory_mb: int = 1024,
    max_bytes: int = 2**15,
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Register a function as a target."""

    def register(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        if name in _targets:
            raise ValueError(f"two targets are named {name!r}")
        _targets[name] = Target(run, seeds, memory_mb, max_bytes)
        return run

    return register


def all_targets() -> dict[str, Target]:
    """Every target by its name."""
    package = importlib.import_module("fuzz.targets")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"fuzz.targets.{module.name}")
    return dict(sorted(_targets.items()))


def check(run: Callable[[bytes], None], data: bytes) -> None:
    """Run one input; what passes through here is a finding."""
    try:
        run(data)
    except DraemError as error:
        str(error)  # a message that cannot be made is a finding too


@contextmanager
def as_file(data: bytes, name: str) -> Iterator[Path]:
    """The bytes as a file of the given name, in memory where the system has such a folder."""
    with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path
