"""Output that is redirected to consoles and files of old encodings."""

from __future__ import annotations

import io
import sys

import pytest
import typer

from draem.cli import app, main
from draem.cli.terminal import percent


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "gbk", "utf-8"])
def test_no_character_ends_a_command_with_a_traceback(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    names = "é 部品 \U0001f529 \udcff"  # the last is a byte that is not Unicode
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))

    def run() -> None:
        typer.echo(names)
        typer.echo(names, err=True)

    monkeypatch.setattr(app, "run", run)
    main()
    sys.stdout.flush()
    assert written.getvalue().decode(encoding).rstrip() == names.encode(
        encoding, "backslashreplace"
    ).decode(encoding)


def test_figures_are_ascii() -> None:
    assert percent(float("nan")).isascii()
