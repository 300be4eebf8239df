"""How long do the four pixel metrics take, what memory do they hold, and how does it grow?

    python benchmarks/metrics.py [--rounds 5] [--peer anomalib=PYTHON]

AUROC, average precision, the best F1 and AUPRO of 100 images of 256x256, by draem, by
scikit-learn (the first two alone) and by anomalib in the interpreter of an environment of its own.
Each library runs in processes of its own; they take turns. Prints tables and writes JSON. Needs
Linux, which tells a process's peak memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from draem.evaluation.histograms import LEVELS, score_levels
from machine import machine, write_result
from peer_option import add_peers
from peers.pixel_metrics import scored_images

IMAGES, SIDE, REGIONS = 100, 256, 3
SCRIPT = Path(__file__).parent / "peers" / "pixel_metrics.py"
# Peers hold every pixel; a thousand images would take ten times the memory and time of a hundred.
MEMORY = {"draem": (100, 1_000, 10_000), "peers": (50, 100, 200)}
SIZES: dict[str, list[tuple[int, int, int]]] = {
    "images": [(count, SIDE, REGIONS) for count in (10, 30, 100, 300, 1_000)],
    "pixels": [(100 * SIDE**2 // side**2, side, REGIONS) for side in (64, 128, 256, 512, 1_024)],
    "regions": [(IMAGES, SIDE, regions) for regions in (0, 1, 4, 16, 64, 256)],
}
TOLERANCE = 1e-4
BYTES_A_PIXEL = 5  # a float32 score and a mask's byte
Answer = dict[str, Any]


class Library:
    """One library's metrics in a process of its own."""

    def __init__(self, name: str, python: str = sys.executable) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, SCRIPT, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name} did not start: {python} {SCRIPT} {name}")

    def ask(self, images: int, side: int, regions: int, keep: bool = True) -> Answer:
        """Have one set of images measured."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"images": images, "side": side, "regions": regions, "keep": keep}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended at {images} images of {side}x{side}")
        return json.loads(line)

    def stop(self) -> None:
        """Let the process end."""
        self._process.communicate()


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    pythons = {"draem": sys.executable, "scikit-learn": sys.executable, **dict(arguments.peer)}
    rows = _in_turn(pythons, arguments.rounds)
    floor = _floor(rows[0]["median_s"])
    memory = [
        _memory(name, python, count)
        for name, python in pythons.items()
        for count in MEMORY["draem" if name == "draem" else "peers"]
    ]
    sizes = _sizes(arguments.rounds)
    _print(rows, floor, memory, sizes)
    document = {
        "benchmark": "metrics",
        "machine": machine(),
        "images": IMAGES,
        "side": SIDE,
        "regions": REGIONS,
        "rows": rows,
        "floor": floor,
        "memory": memory,
        "sizes": sizes,
    }
    print(write_result("metrics", document))


def _in_turn(pythons: dict[str, str], rounds: int) -> list[dict[str, Any]]:
    libraries = [Library(name, python) for name, python in pythons.items()]
    for library in libraries:
        library.ask(2, SIDE, REGIONS)
    answers: dict[str, list[Answer]] = {name: [] for name in pythons}
    for _ in range(rounds):
        for library in libraries:
            answers[library.name].append(library.ask(IMAGES, SIDE, REGIONS))
    for library in libraries:
        library.stop()
    ours = answers["draem"]
    return [_row(name, theirs, ours) for name, theirs in answers.items()]


def _row(name: str, theirs: list[Answer], ours: list[Answer]) -> dict[str, Any]:
    seconds = [answer["seconds"] for answer in theirs]
    ratios = [one["seconds"] / other["seconds"] for one, other in zip(theirs, ours, strict=True)]
    values = theirs[0]["values"]
    difference = {key: abs(value - ours[0]["values"][key]) for key, value in values.items()}
    if max(difference.values()) > TOLERANCE:
        raise SystemExit(f"{name} finds other values: {values} against {ours[0]['values']}")
    return {
        "library": name,
        "seconds": seconds,
        "median_s": statistics.median(seconds),
        "times_draem": statistics.median(ratios),
        "times_draem_lowest": min(ratios),
        "times_draem_highest": max(ratios),
        "values": values,
        "difference": difference,
    }


def _floor(median_s: float) -> dict[str, float]:
    """What cannot be avoided: reading every score and mask once, and counting every pixel."""
    made = list(scored_images(IMAGES, SIDE, REGIONS))
    levels = [score_levels(anomaly_map).astype(np.intp).ravel() for anomaly_map, _ in made]
    counts = np.zeros(LEVELS, np.int64)
    reading, counting = [], []
    for _ in range(5):
        started = time.perf_counter()
        for anomaly_map, mask in made:
            anomaly_map.max()
            mask.any()
        reading.append(time.perf_counter() - started)
        started = time.perf_counter()
        for each in levels:
            np.add.at(counts, each, 1)
        counting.append(time.perf_counter() - started)
    read_s, count_s = min(reading), min(counting)
    return {
        "bytes": BYTES_A_PIXEL * IMAGES * SIDE**2,
        "read_s": read_s,
        "count_s": count_s,
        "times_floor": median_s / (read_s + count_s),
    }


def _memory(name: str, python: str, images: int) -> dict[str, Any]:
    library = Library(name, python)
    answer = library.ask(images, SIDE, REGIONS, keep=False)
    library.stop()
    return {"library": name, "images": images, "grown_mib": answer["grown_mib"]}


def _sizes(rounds: int) -> list[dict[str, Any]]:
    library = Library("draem")
    library.ask(2, SIDE, REGIONS)
    rows = []
    for varied, cases in SIZES.items():
        for images, side, regions in cases:
            seconds = [library.ask(images, side, regions)["seconds"] for _ in range(rounds)]
            rows.append(
                {
                    "varied": varied,
                    "images": images,
                    "side": side,
                    "regions": regions,
                    "seconds": seconds,
                    "median_s": statistics.median(seconds),
                    "ns_a_pixel": 1e9 * statistics.median(seconds) / (images * side**2),
                }
            )
    library.stop()
    return rows


def _print(
    rows: list[dict[str, Any]],
    floor: dict[str, float],
    memory: list[dict[str, Any]],
    sizes: list[dict[str, Any]],
) -> None:
    print(f"\n{IMAGES} images of {SIDE}x{SIDE}\n{'':<14} median s  times draem (spread)")
    for row in rows:
        low, high = row["times_draem_lowest"], row["times_draem_highest"]
        print(
            f"{row['library']:<14} {row['median_s']:>8.3f}  {row['times_draem']:>11.1f} "
            f"({low:.1f} to {high:.1f})"
        )
        off = "  ".join(f"{name} {value:.1e}" for name, value in row["difference"].items())
        print(f"{'':<14} off by: {off}")
    print(
        f"floor: read {1000 * floor['read_s']:.1f} ms + count {1000 * floor['count_s']:.1f} ms; "
        f"draem takes {floor['times_floor']:.1f} times that"
    )
    print(f"\n{'':<14}  images  peak memory grew by, MiB")
    for each in memory:
        print(f"{each['library']:<14}  {each['images']:>6}  {each['grown_mib']:>8.1f}")
    print("\nvaried    images  side  regions        s  ns a pixel")
    for each in sizes:
        print(
            f"{each['varied']:<8}  {each['images']:>6}  {each['side']:>4}  {each['regions']:>7}  "
            f"{each['median_s']:>7.3f}  {each['ns_a_pixel']:>10.1f}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    add_peers(parser, {"anomalib": "PYTHON"})
    return parser.parse_args()


if __name__ == "__main__":
    main()
