"""The command line: one small module a command."""

from __future__ import annotations

from draem.cli.app import main

__all__ = ["main"]
