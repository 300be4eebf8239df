"""How fast is a training step, where does its time go, and how much memory does it take?

    python benchmarks/training_step.py [--preset compact|full] [--device cpu|cuda]
        [--batch 16 [8 ...]] [--window 128 [64 ...]] [--threads 2 [1 ...]]
        [--precision auto|32|bf16] [--rounds 7] [--steps 3] [--compile] [--cudnn-benchmark]
        [--peer upstream=CHECKOUT] [--peer anomalib=PYTHON]

Everything about one GPU, in one command:

    python benchmarks/training_step.py --preset full --device cuda --batch 8 32 --steps 10
        --peer upstream=CHECKOUT --peer anomalib=PYTHON

Every side runs in a process of its own, so that its memory can be told, and they take turns, some
steps each a round. The first batch, window and number of threads make the main case; each further
one is a case that differs from it in this alone. The peer `upstream` is the published loop, given
ready-made batches as if its loader cost nothing; with `compact` it trains our networks, and since
that preset has cheaper losses, ours are timed with the published ones as well. anomalib
trains its own, so it takes part in `full` alone. Prints a table a case and writes JSON, where a
case replaces an earlier one that asked the same and the others stay.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from draem.imaging.encode import write_png
from draem.simulation.textures import builtin_textures
from machine import RESULTS, machine, write_result
from peer_option import add_peers

Row = dict[str, Any]
NAME = "training-step"
DEFAULTS = {"compact": (16, 128), "full": (8, 256)}
PEERS = {"upstream": "upstream_step.py", "anomalib": "anomalib_step.py"}
# Ours, each with what differs from a run of `draem train`.
OURS: dict[str, Row] = {
    "draem": {},
    "draem, ready-made batches": {"simulate": False},
    "draem, published losses": {"simulate": False, "published_losses": True},
    "draem, activation checkpointing": {"simulate": False, "checkpointing": True},
}
KEY = ("preset", "device", "batch", "window", "threads", "precision", "compile", "cudnn_benchmark")
PUBLISHED_RUN = 700 * 300


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    cases = _earlier()
    for asked in _cases(arguments):
        case = _measure(asked, arguments.rounds, arguments.peer)
        cases = [each for each in cases if any(each[key] != case[key] for key in KEY)]
        cases.append(case)
        _print(case)
        print(write_result(NAME, {"benchmark": NAME, "cases": cases}), flush=True)


def _cases(arguments: argparse.Namespace) -> Iterator[Row]:
    batch, window = DEFAULTS[arguments.preset]
    lists = {
        "batch": arguments.batch or [batch],
        "window": arguments.window or [window],
        "threads": arguments.threads,
    }
    common = {
        "preset": arguments.preset,
        "device": arguments.device,
        "precision": arguments.precision,
        "compile": arguments.compile,
        "cudnn_benchmark": arguments.cudnn_benchmark,
        "steps": arguments.steps,
    }
    first = common | {name: values[0] for name, values in lists.items()}
    yield first
    for name, values in lists.items():
        for value in values[1:]:
            yield first | {name: value}


def _measure(asked: Row, rounds: int, peers: list[tuple[str, str]]) -> Row:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = {
            name: stack.enter_context(
                _side(Path("training_side.py"), sys.executable, asked | change)
            )
            for name, change in OURS.items()
            if asked["preset"] == "compact" or "published_losses" not in change
        }
        for name, place in peers:
            if name == "anomalib" and asked["preset"] != "full":
                continue
            interpreter = place if name == "anomalib" else sys.executable
            more = {"checkout": place, "textures": _written_textures(folder, asked["window"])}
            script = Path("peers") / PEERS[name]
            sides[name] = stack.enter_context(_side(script, interpreter, asked | more))
        on_cpu = asked["device"] == "cpu"
        first = {name: side("steps")["seconds"][0] for name, side in sides.items()}
        memory = {name: side("memory") for name, side in sides.items()}
        tensors = {name: side("tensors") for name, side in sides.items()} if on_cpu else {}
        arithmetic = sides["draem, ready-made batches"]("arithmetic")
        seconds: dict[str, list[float]] = {name: [] for name in [*sides, "draem under Fabric"]}
        stages: list[Row] = []
        for _ in range(rounds):
            for name, side in sides.items():
                # The threads of the side before keep spinning for a moment.
                time.sleep(0.05)
                seconds[name] += side("steps")["seconds"]
            stages.append(sides["draem"]("stages"))
            seconds["draem under Fabric"] += sides["draem"]("fabric")["seconds"]
    rows = [
        _row(name, taken, asked["batch"], memory.get(name), first.get(name))
        | ({"tensors_mb": tensors[name]["peak"] / 1e6} if name in tensors else {})
        for name, taken in seconds.items()
    ]
    return {
        **{key: asked[key] for key in KEY},
        "machine": machine(asked["device"]),
        "rows": rows,
        "stages_ms": {name: 1000 * _middle(each[name] for each in stages) for name in stages[0]},
        **_arithmetic(arithmetic, rows),
        **_ratios(rows, asked["preset"]),
    }


def _row(name: str, taken: list[float], batch: int, memory: Row | None, first: float | None) -> Row:
    middle = _middle(taken)
    return {
        "side": name,
        "images_per_s": batch / middle,
        "median_ms": 1000 * middle,
        "lowest_ms": 1000 * min(taken),
        "quartiles_ms": [1000 * each for each in statistics.quantiles(taken, n=4)[::2]],
        "highest_ms": 1000 * max(taken),
        "steps": len(taken),
        "first_step_s": first,
        "peak_mb": None if memory is None else memory["peak"] / 1e6,
        "peak_above_start_mb": None if memory is None else memory["above_start"] / 1e6,
    }


def _arithmetic(answer: Row, rows: list[Row]) -> Row:
    step = next(row for row in rows if row["side"] == "draem, ready-made batches")
    reached = answer["flop_per_step"] / step["median_ms"] * 1000
    return {
        "precision_used": answer["precision"],
        "gflop_per_step": answer["flop_per_step"] / 1e9,
        "gflop_per_s": reached / 1e9,
        "matmul_gflop_per_s": answer["matmul_flop_per_s"] / 1e9,
        "share_of_matmul": reached / answer["matmul_flop_per_s"],
    }


def _ratios(rows: list[Row], preset: str) -> Row:
    by_side = {row["side"]: row for row in rows}
    ours = by_side["draem"]
    ratios: Row = {
        f"times_{peer}": {
            name: by_side[name]["images_per_s"] / by_side[peer]["images_per_s"]
            for name in OURS
            if name in by_side
        }
        for peer in PEERS
        if peer in by_side
    }
    if preset == "full":
        ratios["published_run_minutes"] = PUBLISHED_RUN / ours["images_per_s"] / 60
    return ratios


@contextmanager
def _side(script: Path, interpreter: str, asked: Row) -> Iterator[Any]:
    """A side in a process of its own: a function from a command to its answer."""
    here = Path(__file__).parent
    defaults = {"simulate": True, "checkpointing": False, "published_losses": False}
    process = subprocess.Popen(
        [interpreter, "-W", "ignore", here / script, json.dumps(defaults | asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{script} did not start")

    def ask(command: str) -> Row:
        process.stdin.write(command + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{script} ended at the command {command}")
        answer: Row = json.loads(line)
        return answer

    try:
        yield ask
    finally:
        process.communicate()


def _written_textures(folder: Path, side: int) -> str:
    for number, texture in enumerate(builtin_textures((side, side))):
        write_png(folder / f"{number}.png", texture)
    return str(folder)


def _middle(values: Any) -> float:
    return statistics.median(list(values))


def _print(case: Row) -> None:
    title = ", ".join(f"{key.replace('_', ' ')} {case[key]}" for key in KEY if case[key])
    print(f"\n{title}")
    print(f"{'':<32}  images/s  median ms  lowest  highest  peak MB  above start   tensors MB")
    for row in case["rows"]:
        peak = (row["peak_mb"], row["peak_above_start_mb"], row.get("tensors_mb"))
        memory = [" " * 7 if each is None else f"{each:7.0f}" for each in peak]
        print(
            f"{row['side']:<32}  {row['images_per_s']:8.1f}  {row['median_ms']:9.1f}  "
            f"{row['lowest_ms']:6.1f}  {row['highest_ms']:7.1f}  {'      '.join(memory)}"
        )
    stages = case["stages_ms"]
    shares = (f"{name} {taken:.1f} ms" for name, taken in stages.items())
    print(f"stages: {', '.join(shares)}")
    print(f"simulation: {stages['simulation'] / sum(stages.values()):.1%} of the step")
    print(
        f"{case['gflop_per_step']:.1f} GFLOP a step, {case['gflop_per_s']:.0f} GFLOP/s reached of "
        f"{case['matmul_gflop_per_s']:.0f} ({case['share_of_matmul']:.0%}), "
        f"precision {case['precision_used']}"
    )
    for peer in PEERS:
        if times := case.get(f"times_{peer}"):
            said = ", ".join(f"{name} {each:.2f}" for name, each in times.items())
            print(f"times {peer}: {said}")
    if minutes := case.get("published_run_minutes"):
        print(f"700 epochs of 300 images: {minutes:.0f} min")


def _earlier() -> list[Row]:
    path = RESULTS / f"{NAME}.json"
    if not path.is_file():
        return []
    cases: list[Row] = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return cases


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=DEFAULTS, default="compact")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, nargs="+")
    parser.add_argument("--window", type=int, nargs="+")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--precision", choices=("auto", "32", "bf16"), default="auto")
    parser.add_argument("--rounds", type=int, default=7, help="at least 2")
    parser.add_argument("--steps", type=int, default=3, help="of each side a round")
    parser.add_argument("--compile", action="store_true", help="our networks, by torch.compile")
    parser.add_argument("--cudnn-benchmark", action="store_true", help="on a GPU, for all sides")
    add_peers(parser, {"anomalib": "PYTHON", "upstream": "CHECKOUT"})
    return parser.parse_args()


if __name__ == "__main__":
    main()
