"""How long until `draem --help`, `import draem` and the first result of `draem inspect`?

    python benchmarks/startup.py [--repeats 11] [--peer anomalib=PYTHON]

Each is timed in a process of its own, in turn, against the time of an empty Python process, with
modules compiled, as an installation leaves them: the first round, not counted, sees to that. The
first result is the first line of results.jsonl, its anomaly map and overlay written, of a folder of
photographs and a freshly initialised `compact` network exported to ONNX. anomalib runs in the
interpreter of an environment of its own, in the first rounds alone. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import draem
from folder import write_photographs
from inference import write_network
from machine import machine, write_result
from peer_option import add_peers

EMPTY = "python -c pass"
FIRST_RESULT = "draem inspect, first result"
CASES = {
    EMPTY: [sys.executable, "-c", "pass"],
    "import draem": [sys.executable, "-c", "import draem"],
    "draem --help": [sys.executable, "-m", "draem", "--help"],
    "draem train --help": [sys.executable, "-m", "draem", "train", "--help"],
    "draem inspect --help": [sys.executable, "-m", "draem", "inspect", "--help"],
}
TARGETS = {"import draem": 0.1, "draem --help": 0.3, FIRST_RESULT: 1.0}
PEERS = {"anomalib --help": "draem --help", "import anomalib's Draem": "import draem"}
PEER_ROUNDS = 3
IMAGES, SIDE = 8, 1024
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
PATIENCE_S = 60
Turn = Callable[[], float]


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    turns = {name: _timed(command) for name, command in CASES.items()}
    for _, python in arguments.peer:
        turns |= _peer_turns(python)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = draem.export(write_network("compact", folder), "onnx").path
        write_photographs(folder / "images", SIDE, IMAGES)
        turns[FIRST_RESULT] = _first_result(model, folder)
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        for take in turns.values():
            take()
        for number in range(arguments.repeats):
            for name, take in turns.items():
                if name not in PEERS or number < PEER_ROUNDS:
                    seconds[name].append(take())
    rows = [_row(name, seconds) for name in seconds]
    _print(rows)
    facts: dict[str, object] = {"images": IMAGES, "side": SIDE, "model": "compact", "to": "onnx"}
    document = {"benchmark": "startup", "machine": machine(), **facts, "rows": rows}
    print(write_result("startup", document))


def _timed(command: list[str]) -> Turn:
    def take() -> float:
        started = time.perf_counter()
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, env=ENVIRONMENT
        )
        taken = time.perf_counter() - started
        if ended.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr}")
        return taken

    return take


def _first_result(model: Path, folder: Path) -> Turn:
    out = folder / "out"
    results = out / "results.jsonl"
    command = [sys.executable, "-m", "draem", "inspect", model, folder / "images", "--out", out]

    def take() -> float:
        results.unlink(missing_ok=True)
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        while not (results.is_file() and results.stat().st_size):
            if time.perf_counter() - started > PATIENCE_S or process.poll():
                raise SystemExit(f"no result came of: {' '.join(map(str, command))}")
            time.sleep(0.001)
        taken = time.perf_counter() - started
        process.wait()
        return taken

    return take


def _peer_turns(python: str) -> dict[str, Turn]:
    commands = {
        "anomalib --help": [str(Path(python).with_name("anomalib")), "--help"],
        "import anomalib's Draem": [python, "-c", "from anomalib.models import Draem"],
    }
    return {name: _timed(command) for name, command in commands.items()}


def _row(name: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    taken = seconds[name]
    row = {
        "case": name,
        "seconds": taken,
        "median_s": statistics.median(taken),
        "target_s": TARGETS.get(name),
    }
    if name in PEERS:
        ours = seconds[PEERS[name]]
        ratios = [one / other for one, other in zip(taken, ours, strict=False)]
        row |= {
            "against": PEERS[name],
            "times_draem": statistics.median(ratios),
            "times_draem_lowest": min(ratios),
            "times_draem_highest": max(ratios),
        }
    return row


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"{'':<28} median s   fastest   slowest   target")
    for row in rows:
        target = "" if row["target_s"] is None else f"{row['target_s']:8.1f}"
        print(
            f"{row['case']:<28} {row['median_s']:8.3f}  {min(row['seconds']):8.3f}  "
            f"{max(row['seconds']):8.3f}  {target}"
        )
        if "against" in row:
            low, high = row["times_draem_lowest"], row["times_draem_highest"]
            print(f"    {row['times_draem']:.0f} times {row['against']} ({low:.0f} to {high:.0f})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11)
    add_peers(parser, {"anomalib": "PYTHON"})
    return parser.parse_args()


if __name__ == "__main__":
    main()
