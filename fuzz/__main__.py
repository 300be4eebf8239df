"""Run fuzz targets: `python -m fuzz [NAME ...] --inputs 100000`.

Each target runs in a process of its own under atheris, which mutates inputs by the lines of
Python that they reach. What is found is written to `fuzz-findings/NAME/`, one input a file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from fuzz.harness import CORPUS, SECONDS, all_targets, check

FINDINGS = Path("fuzz-findings")
WATCHED = ["draem", "PIL", "fuzz"]
"""Packages whose lines guide the mutation."""

ANSWERS = {
    0: "nothing found",
    70: f"more than {SECONDS} s",
    71: "too much memory",
    77: "a crash, or an error that is no DraemError",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help="targets; all if omitted")
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs per target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the names of the targets")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        _fuzz(options.names[0], options.inputs, options.seed)
    names = options.names or list(all_targets())
    if options.list:
        print("\n".join(names))
        return 0
    return max([_in_own_process(name, options.inputs, options.seed) for name in names])


def _in_own_process(name: str, inputs: int, seed: int) -> int:
    """Fuzz one target and print one line; 1 if something was found."""
    findings = FINDINGS / name
    findings.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz", name, "--in-process"]
    command += ["--inputs", str(inputs), "--seed", str(seed)]
    start = time.monotonic()
    with (findings / "log.txt").open("wb") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    answer = ANSWERS.get(code, f"the run failed with status {code}")
    print(f"{name}: {inputs} inputs, {time.monotonic() - start:.0f} s: {answer}", flush=True)
    if code:
        print(f"  see {findings}", flush=True)
    return int(code != 0)


def _fuzz(name: str, inputs: int, seed: int) -> None:
    """Fuzz one target in this process; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=WATCHED):
        chosen = all_targets()[name]
    findings = FINDINGS / name
    start = findings / "start"
    start.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(chosen.seeds()):
        (start / f"{number:04}").write_bytes(data)
    arguments = [
        sys.argv[0],
        str(start),
        *([str(CORPUS / name)] if (CORPUS / name).is_dir() else []),
        f"-runs={inputs}",
        f"-seed={seed}",
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={chosen.memory_mb}",
        f"-max_len={chosen.max_bytes}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
    ]

    def run(data: bytes) -> None:
        try:
            check(chosen.run, data)
        except Exception:
            # The fuzzer may be stopped by its own alarm before it stores the input.
            (findings / "input").write_bytes(data)
            raise

    atheris.Setup(arguments, run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
