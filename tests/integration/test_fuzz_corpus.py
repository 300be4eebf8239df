"""Inputs that once found something, and the seeds, run through each fuzz target."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from draem.errors import DraemError
from fuzz.harness import CORPUS, SECONDS, all_targets, check


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets may set limits for their process."""
    monkeypatch.setenv("DRAEM_MAX_PIXELS", "1000000")


@pytest.mark.parametrize("name", list(all_targets()))
def test_nothing_comes_out_but_draem_errors(name: str) -> None:
    chosen = all_targets()[name]
    kept = CORPUS / name
    files = sorted(kept.iterdir()) if kept.is_dir() else []

    for data in [*chosen.seeds(), *(file.read_bytes() for file in files)]:
        start = time.monotonic()
        check(chosen.run, data)
        assert time.monotonic() - start < SECONDS


def _is_read(run: Callable[[bytes], None], data: bytes) -> bool:
    try:
        run(data)
    except DraemError:
        return False
    return True


@pytest.mark.parametrize("name", list(all_targets()))
def test_most_seeds_are_valid(name: str) -> None:
    chosen = all_targets()[name]
    read = [_is_read(chosen.run, data) for data in chosen.seeds()]
    assert sum(read) > len(read) / 2


def test_every_kept_input_belongs_to_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir() if folder.is_dir()} <= set(all_targets())


def _raise(error: Exception) -> Callable[[bytes], None]:
    def run(_: bytes) -> None:
        raise error

    return run


def test_other_errors_are_findings() -> None:
    check(_raise(DraemError("is refused")), b"")
    with pytest.raises(KeyError):
        check(_raise(KeyError("a bug")), b"")
