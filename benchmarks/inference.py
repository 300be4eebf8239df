"""How long does one 256x256 image take in every runtime, and in the peers?

    python benchmarks/inference.py [--threads 2] [--rounds 9] [--models full compact]
                                   [--peer anomalib=PYTHON] [--peer upstream=CHECKOUT]

Exports freshly initialised networks, then lets the runtimes and peers take turns, one image each a
round, so that all of them see the same machine; a product of matrices after them tells the least
time that convolutions could take. anomalib runs in the interpreter of an environment of its own,
the published code in this one. Prints a table, writes JSON and draws a plot.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

import draem
from draem.config import ResolvedNetworkConfig
from draem.exporting.exporter import Format, comparison_images
from draem.model_card import Calibration, ModelCard
from draem.model_file import write_model
from draem.networks.model import build_draem
from floor import MATMUL_GFLOP, count_operations, floors, matmul
from machine import PLOTS, RESULTS, machine, write_result
from peer_option import add_peers
from turns import Turn, in_turn, timed

SIDE = 256
MODELS: dict[str, tuple[int, int, str, int, int]] = {
    "full": (128, 64, "published", 1, 21),
    "compact": (32, 16, "compact", 2, 5),
}
"""Widths, shape, scales and the side of the score's filter."""
PEERS = {"anomalib": "anomalib_draem.py", "upstream": "upstream_draem.py"}
Row = dict[str, Any]


def main() -> None:
    """Measure, print, write and draw."""
    arguments = _arguments()
    rows: list[Row] = []
    least: list[Row] = []
    versions: dict[str, str] = {}
    for model in arguments.models:
        peers = [_Peer(*each, arguments.threads) for each in arguments.peer if model == "full"]
        versions |= {peer.name: peer.versions for peer in peers}
        found, floor = _measure(model, arguments.threads, arguments.rounds, peers)
        for peer in peers:
            peer.stop()
        rows += found
        least.append(floor)
        _print(model, found, floor)
    facts = machine() | {"threads": arguments.threads, "peers": versions}
    earlier = _earlier(arguments.models)
    document = {
        "benchmark": "inference",
        "machine": facts,
        "rows": earlier["rows"] + rows,
        "floors": earlier["floors"] + least,
    }
    write_result("inference", document)
    print(_plot(earlier["rows"] + rows))


def _earlier(models: list[str]) -> dict[str, list[Row]]:
    """What was measured before of models that are not measured now."""
    path = RESULTS / "inference.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        kind: [row for row in held.get(kind, []) if row["model"] not in models]
        for kind in ("rows", "floors")
    }


def _measure(model: str, threads: int, rounds: int, peers: list[_Peer]) -> tuple[list[Row], Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = write_network(model, Path(folder))
        images = comparison_images((SIDE, SIDE))
        turns: dict[str, Turn] = {}
        differences: dict[str, float] = {}
        expected = None
        for name, file in _files(path):
            inspector = draem.load(file, threads=threads)
            scores = inspector.run(images).anomaly_scores
            expected = scores if expected is None else expected
            differences[name] = float(np.abs(scores - expected).max())
            turns[name] = timed(partial(inspector.run, images[:1]))
        turns |= {peer.name: peer.turn for peer in peers}
        seconds = in_turn(turns, rounds)
    # Not among the turns: NumPy's pool spins on for longer than they wait for each other.
    (products,) = in_turn({"matmul": matmul()}, rounds).values()
    operations = count_operations(*MODELS[model][:4], SIDE)
    matmul_rate = MATMUL_GFLOP / statistics.median(products)
    # MNN alone has Winograd's algorithm; the others make all operations that are counted.
    direct = (taken for name, taken in seconds.items() if name != "mnn")
    rate = max(matmul_rate, *(operations.total / statistics.median(taken) for taken in direct))
    floor = {
        "model": model,
        "gflop": operations.total,
        "gflop_of_3x3": operations.winograd,
        "matmul_gflop_per_s": matmul_rate,
        "highest_gflop_per_s": rate,
        "least_ms": floors(operations, rate),
    }
    rows = [
        {
            "model": model,
            "runtime": name,
            "median_ms": 1000 * statistics.median(taken),
            "lowest_ms": 1000 * min(taken),
            "highest_ms": 1000 * max(taken),
            "score_difference": differences.get(name),
            "gflop_per_s": operations.total / statistics.median(taken),
        }
        for name, taken in seconds.items()
    ]
    return rows, floor


def write_network(model: str, folder: Path) -> Path:
    """Write a freshly initialised network as a model file."""
    reconstructive, discriminative, architecture, scales, smoothing = MODELS[model]
    network = ResolvedNetworkConfig(
        reconstructive_width=reconstructive,
        discriminative_width=discriminative,
        architecture=architecture,
        scales=scales,
        image_size=(SIDE, SIDE),
        smoothing=smoothing,
    )
    card = ModelCard(
        preset=model,
        network=network,
        # Untrained maps hover round one half, where no trained model finds its regions.
        calibration=Calibration(threshold=0.99, false_reject_rate=0.01, images=99),
    )
    path = folder / "model.safetensors"
    write_model(path, build_draem(network).state_dict(), card)
    return path


def _files(path: Path) -> list[tuple[str, Path]]:
    exported = [(to, draem.export(path, to).path) for to in get_args(Format)]
    return [("torch", path), *exported]


class _Peer:
    """A peer in a process of its own, which times itself when asked."""

    def __init__(self, name: str, place: str, threads: int) -> None:
        script = Path(__file__).parent / "peers" / PEERS[name]
        command = (
            [place, script, str(threads)]
            if name == "anomalib"
            else [sys.executable, script, str(threads), place]
        )
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        word, _, self.versions = self._process.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise SystemExit(f"the peer {name} did not start: {' '.join(map(str, command))}")

    def turn(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate()


def _print(model: str, rows: list[Row], floor: Row) -> None:
    fastest = min(row["median_ms"] for row in rows)
    print(f"\n{model}, {SIDE}x{SIDE}, one image")
    print(f"{'':<10}  median ms  lowest  highest  times the fastest  GFLOP/s  score off by")
    for row in sorted(rows, key=lambda each: each["median_ms"]):
        off = row["score_difference"]
        print(
            f"{row['runtime']:<10}  {row['median_ms']:>9.1f}  {row['lowest_ms']:>6.1f}  "
            f"{row['highest_ms']:>7.1f}  {row['median_ms'] / fastest:>17.2f}  "
            f"{row['gflop_per_s']:>7.0f}  {'' if off is None else f'{off:.1e}':>12}"
        )
    ways = ", ".join(f"{way} {least:.1f}" for way, least in floor["least_ms"].items())
    print(
        f"least ms at {floor['highest_gflop_per_s']:.0f} GFLOP/s: {ways}; "
        f"{floor['gflop']:.1f} GFLOP, {floor['gflop_of_3x3'] / floor['gflop']:.1%} of them in 3x3"
    )


def _plot(rows: list[Row]) -> Path:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, axes = plt.subplots(
        1, len(models), figsize=(4.5 * len(models), 3), layout="constrained", squeeze=False
    )
    for each, model in zip(axes[0], models, strict=True):
        chosen = sorted(
            (row for row in rows if row["model"] == model), key=lambda row: -row["median_ms"]
        )
        bars = each.barh(
            [row["runtime"] for row in chosen],
            [row["median_ms"] for row in chosen],
            color=["C7" if row["runtime"] in PEERS else "C0" for row in chosen],
        )
        each.bar_label(bars, [f"{row['median_ms']:.0f}" for row in chosen], padding=2)
        each.set(title=f"{model}, {SIDE}x{SIDE}", xlabel="ms an image")
        each.margins(x=0.15)
    path = PLOTS / "inference.png"
    figure.savefig(path, dpi=130)
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add_peers(parser, {"anomalib": "PYTHON", "upstream": "CHECKOUT"})
    return parser.parse_args()


if __name__ == "__main__":
    main()
