"""How long do `draem --help`, a command's help and `import draem` take?

    python benchmarks/startup.py [--repeats 11]

Each is timed in a process of its own, in turn, against the time of an empty Python process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from machine import machine, write_result

CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import draem": [sys.executable, "-c", "import draem"],
    "draem --help": [sys.executable, "-m", "draem", "--help"],
    "draem train --help": [sys.executable, "-m", "draem", "train", "--help"],
    "draem inspect --help": [sys.executable, "-m", "draem", "inspect", "--help"],
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(repeats):
        for name, command in CASES.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'':<22} median s   fastest   slowest")
    for name, values in seconds.items():
        print(f"{name:<22} {medians[name]:8.3f}  {min(values):8.3f}  {max(values):8.3f}")
    document = {"benchmark": "startup", "machine": machine(), "seconds": seconds}
    print(write_result("startup", document))


if __name__ == "__main__":
    main()
