"""How should threads of OpenMP wait for one another: alone on the machine, and next to other work?

    python benchmarks/waiting.py

Encodes a 256x256 image with two threads, alone and next to two processes that never rest, under
several settings of the OpenMP library, each in a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machine import machine, write_result

SETTINGS: dict[str, dict[str, str]] = {
    "as OpenMP comes": {},
    "no spinning (OMP_WAIT_POLICY=PASSIVE)": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--encode", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.encode:
        print(_encode())
        return
    found: dict[str, dict[str, list[float]]] = {}
    for beside, others in (("alone", 0), ("next to two busy processes", 2)):
        with _busy(others):
            for _ in range(arguments.turns):
                for name, setting in SETTINGS.items():
                    command = [sys.executable, __file__, "--encode"]
                    ended = subprocess.run(
                        command,
                        env=os.environ | setting,
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    found.setdefault(name, {}).setdefault(beside, []).append(float(ended.stdout))
    for name, runs in found.items():
        figures = ", ".join(f"{key} {statistics.median(ms):.1f} ms" for key, ms in runs.items())
        print(f"{name}: {figures}")
    print(write_result("waiting", {"machine": machine(), "milliseconds": found}))


def _encode() -> float:
    """Median milliseconds of one image."""
    import torch

    from draem.networks.encoder import load_encoder

    encoder = load_encoder().eval()
    image = torch.rand(1, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(25):
            started = time.perf_counter()
            encoder(image)
            times.append(time.perf_counter() - started)
    return round(1000 * statistics.median(times[5:]), 2)


@contextmanager
def _busy(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


if __name__ == "__main__":
    main()
