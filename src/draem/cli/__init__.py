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
    # hold one another up: an image took 55 times as long next to two busy processes. So they spin
    # but briefly, which is as fast alone (benchmarks/waiting.py).
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "30000"
    try:
        from draem.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
