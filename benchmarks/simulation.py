"""What does one simulated sample cost, stage by stage, against the peers and against the floor?

    python benchmarks/simulation.py [--rounds 16] [--profiles paper upstream varied]
                                    [--peer anomalib=PYTHON] [--peer upstream=PYTHON,CHECKOUT]

Simulates batches from decoded images in memory with one and with two threads; the peers take turns
with us, each in an interpreter of its own. anomalib needs an environment that holds it. The
published code needs imgaug, which needs a NumPy that still has its old names:

    python3.11 -m venv ENV
    ENV/bin/pip install 'numpy<1.24' imgaug opencv-python-headless torch

Then `--peer upstream=ENV/bin/python,CHECKOUT`. Prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from draem.config import PROFILES, ProfileName
from draem.datasets.image_source import in_memory
from draem.simulation import paper, varied
from draem.simulation.factory import make_simulator
from draem.simulation.simulator import Simulator
from draem.simulation.textures import builtin_textures
from machine import machine, write_result
from peer_option import add_peers
from rates import copied_per_second, multiplied_per_second

SIDE, BATCH, IMAGES = 256, 8, 32
SIZES, BATCHES = (128, 256, 512, 1024), (1, 2, 4, 8, 16, 32)
PEERS = {"anomalib": "anomalib_simulation.py", "upstream": "upstream_simulation.py"}
_WHOLE: dict[str, tuple[object, str]] = {
    "parameters": (paper.PaperSimulator, "_sample_parameters"),
    "rotation": (paper.PaperSimulator, "_rotate"),
    "augmentation": (paper, "augment_but_last_lut"),
    "Perlin noise": (paper, "perlin_field"),
}
_WINDOWS: dict[str, tuple[object, str]] = {
    "parameters": (varied.VariedSimulator, "_sample_parameters"),
    "windows": (varied, "crop_windows"),
    "shapes": (varied, "shape_weights"),
    "fills": (varied, "fill"),
    "visibility": (varied, "visible"),
}
# What a sample needs at least, in operations a pixel: a rotation's four taps of three channels with
# their weights and coordinates; the noise's four corners, fades and interpolations; the blending.
_ROTATION, _NOISE, _BLENDING = 33, 43, 10
Row = dict[str, Any]
Turn = Callable[[], float]


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "pictures.npz"
        textures = builtin_textures((SIDE, SIDE))
        np.savez(arrays, normal=textures[-IMAGES:], textures=textures[:-IMAGES])
        samples = [
            row
            for threads in (1, 2)
            for row in _samples(
                arguments.profiles, threads, arguments.rounds, arguments.peer, arrays
            )
        ]
    torch.set_num_threads(1)
    stages = [row for profile in arguments.profiles for row in _stages(profile, arguments.rounds)]
    floor = _floor(arguments.profiles, samples)
    sizes = _against("size", SIZES, arguments.profiles, arguments.rounds)
    batches = _against("batch", BATCHES, arguments.profiles, arguments.rounds)
    document = {
        "benchmark": "simulation",
        "machine": machine(),
        "size": SIDE,
        "batch": BATCH,
        "samples": samples,
        "stages": stages,
        "floor": floor,
        "against_size": sizes,
        "against_batch": batches,
    }
    write_result("simulation", document)
    _print(document)


@lru_cache
def _pictures(side: int) -> torch.Tensor:
    return torch.from_numpy(builtin_textures((side, side))).permute(0, 3, 1, 2).contiguous()


def make(profile: ProfileName, side: int = SIDE, images: int = IMAGES) -> Simulator:
    """A simulator over built-in textures, the last of which serve as normal images."""
    pictures = _pictures(side)
    return make_simulator(
        in_memory(pictures[-images:].numpy()),
        in_memory(pictures[:-images].contiguous().numpy()),
        PROFILES[profile],
    )


def _samples(
    profiles: list[ProfileName],
    threads: int,
    rounds: int,
    peers: list[tuple[str, str]],
    arrays: Path,
) -> list[Row]:
    torch.set_num_threads(threads)
    turns: dict[str, Turn] = {name: _turn(make(name), BATCH) for name in profiles}
    running = [_Peer(name, place, threads, arrays) for name, place in peers]
    taken = _in_turn(turns | {f"{peer.name} (peer)": peer.turn for peer in running}, rounds)
    for peer in running:
        peer.stop()
    rows = [_row({"name": name, "threads": threads}, seconds) for name, seconds in taken.items()]
    return _with_ratios(rows)


def _with_ratios(rows: list[Row]) -> list[Row]:
    """How many times as long each takes as our profile `upstream`, which is what the peers do."""
    ours = [row["mean_ms"] for row in rows if row["name"] == "upstream"]
    # Means, because half of a batch is normal on average only, and cheaper than the rest.
    return [row | {"times_ours": row["mean_ms"] / ours[0] if ours else None} for row in rows]


def _turn(simulator: Simulator, size: int) -> Turn:
    steps = iter(range(10**9))

    def take() -> float:
        started = time.perf_counter()
        simulator.batch(next(steps), size)
        return (time.perf_counter() - started) / size

    return take


class _Peer:
    """A peer in a process of its own, which times itself when asked."""

    def __init__(self, name: str, place: str, threads: int, arrays: Path) -> None:
        self.name = name
        python, *checkout = place.split(",")
        script = Path(__file__).parent / "peers" / PEERS[name]
        command = [python, "-W", "ignore", script, str(threads), *checkout, arrays, str(BATCH)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise SystemExit(f"the peer {name} did not start: {' '.join(map(str, command))}")

    def turn(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) / BATCH

    def stop(self) -> None:
        self._process.communicate()


def _in_turn(turns: dict[str, Turn], rounds: int) -> dict[str, list[float]]:
    for take in turns.values():
        take()
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, take in turns.items():
            taken[name].append(take())
    return taken


def _row(facts: Row, seconds: list[float]) -> Row:
    return facts | {
        "median_ms": 1000 * statistics.median(seconds),
        "mean_ms": 1000 * statistics.mean(seconds),
        "lowest_ms": 1000 * min(seconds),
        "highest_ms": 1000 * max(seconds),
    }


def _stages(profile: ProfileName, rounds: int) -> list[Row]:
    """Mean time of each stage; what is left is blending and the writing of the batch."""
    simulator, seconds = make(profile), {}
    stages = _WINDOWS if profile == "varied" else _WHOLE
    simulator.batch(0, BATCH)
    with ExitStack() as stack:
        for stage, (owner, name) in stages.items():
            seconds[stage] = 0.0
            timed = _timed(getattr(owner, name), seconds, stage)
            stack.enter_context(patch.object(owner, name, timed))
        started = time.perf_counter()
        for step in range(rounds):
            simulator.batch(step, BATCH)
        total = time.perf_counter() - started
    seconds["blending and the rest"] = total - sum(seconds.values())
    return [
        {
            "profile": profile,
            "stage": stage,
            "mean_ms": 1000 * spent / (rounds * BATCH),
            "share": spent / total,
        }
        for stage, spent in seconds.items()
    ]


def _timed(function: Callable[..., Any], seconds: dict[str, float], stage: str) -> Any:
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = function(*args, **kwargs)
        seconds[stage] += time.perf_counter() - started
        return result

    return timed


def _floor(profiles: list[ProfileName], samples: list[Row]) -> Row:
    """What a pipeline in one pass over the pixels would cost, for profiles over whole images."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tests.counting import Counting

    copied, arithmetic = copied_per_second(), multiplied_per_second()
    rows = []
    for name in profiles:
        if name == "varied":
            continue
        profile = PROFILES[name]
        pixels, anomalous = SIDE * SIDE, 1 - profile.clean_share
        # A uint8 image in, two float32 images and a mask out; a uint8 texture where it is shown.
        moved = pixels * (3 + 2 * 12 + 4 + 3 * anomalous)
        work = pixels * (_ROTATION * profile.rotation_share + (_NOISE + _BLENDING) * anomalous + 3)
        simulator = make(name)
        with Counting() as counted:
            for step in range(BATCH):
                simulator.batch(step, BATCH)
        measured = next(row for row in samples if row["name"] == name and row["threads"] == 1)
        floor_ms = 1000 * max(moved / copied, work / arithmetic)
        rows.append(
            {
                "profile": name,
                "ideal_bytes": moved,
                "ideal_operations": work,
                "bytes_ms": 1000 * moved / copied,
                "operations_ms": 1000 * work / arithmetic,
                "floor_ms": floor_ms,
                "times_the_floor": measured["median_ms"] / floor_ms,
                "our_bytes": counted.moved / BATCH**2,
                "our_torch_calls": counted.operations / BATCH**2,
            }
        )
    return {
        "copy_gb_per_s": copied / 1e9,
        "multiplications_g_per_s": arithmetic / 1e9,
        "profiles": rows,
    }


def _against(
    what: str, values: tuple[int, ...], profiles: list[ProfileName], rounds: int
) -> list[Row]:
    """Cost a sample against the size of the images or of the batch, one thread."""
    rows = []
    for value in values:
        side, batch = (value, 4) if what == "size" else (SIDE, value)
        turns = {name: _turn(make(name, side, 8), batch) for name in profiles}
        for name, seconds in _in_turn(turns, max(3, rounds // 2)).items():
            rows.append(_row({"profile": name, what: value}, seconds))
    return rows


def _print(document: Row) -> None:
    print(f"{SIDE}x{SIDE}, batches of {BATCH}, ms a sample")
    for row in document["samples"]:
        print(
            f"{row['name']:<16} {row['threads']} threads  median {row['median_ms']:7.2f}  "
            f"mean {row['mean_ms']:7.2f}  {row['lowest_ms']:.2f} to {row['highest_ms']:.2f}  "
            f"{'' if row['times_ours'] is None else format(row['times_ours'], '.1f') + ' times'}"
        )
    for row in document["stages"]:
        print(
            f"{row['profile']:<9} {row['stage']:<22} {row['mean_ms']:6.2f} ms  {row['share']:4.0%}"
        )
    floor = document["floor"]
    print(
        f"copying {floor['copy_gb_per_s']:.1f} GB/s, "
        f"multiplying {floor['multiplications_g_per_s']:.1f} G/s, one thread"
    )
    for row in floor["profiles"]:
        print(
            f"{row['profile']:<9} floor {row['floor_ms']:.2f} ms (bytes {row['bytes_ms']:.2f}, "
            f"arithmetic {row['operations_ms']:.2f}); we take {row['times_the_floor']:.1f} times, "
            f"move {row['our_bytes'] / row['ideal_bytes']:.1f} times the bytes "
            f"in {row['our_torch_calls']:.0f} calls"
        )
    for what in ("size", "batch"):
        for row in document[f"against_{what}"]:
            print(f"{row['profile']:<9} {what} {row[what]:5}  median {row['median_ms']:7.2f} ms")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=list(PROFILES))
    add_peers(parser, {"anomalib": "PYTHON", "upstream": "PYTHON,CHECKOUT"})
    return parser.parse_args()


if __name__ == "__main__":
    main()
