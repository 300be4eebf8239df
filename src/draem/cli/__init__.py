"""The command line: one small module a command."""

from __future__ import annotations

import io
import os
import sys

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly, even while it is being imported."""
    for stream in (sys.stdout, sys.stderr):
        # A redirected output may have an encoding that lacks characters of file names.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Threads that spin while they wait for one another lose their cores to other programs and then
    # hold one another up: next to other work, training took several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from draem.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
