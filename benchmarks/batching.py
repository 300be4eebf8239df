"""How much faster is a batch of 16 images than 16 images one by one?

    python benchmarks/batching.py [--sides 64 128 256] [--threads 1 2] [--rounds 7]

Runs the preset `compact` in every runtime, both ways in turns. A CPU that is busy with the
arithmetic of one image gains nothing from a batch; what a batch saves is the overhead per call.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import draem
from draem.model_card import ModelCard
from draem.model_file import write_model
from draem.networks.model import build_draem
from draem.training.recipe import make_recipe
from machine import machine, write_result

BATCH = 16
FORMATS = {"torch": ".safetensors", "onnx": ".onnx", "openvino": ".xml", "mnn": ".mnn"}


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    print(f"{'side':>5} {'runtime':<10}{'threads':>8}{'one by one':>13}{'batch':>10}{'ratio':>7}")
    rows = []
    for side in arguments.sides:
        with tempfile.TemporaryDirectory() as folder:
            files = _models(side, Path(folder))
            for threads in arguments.threads:
                for name, path in files.items():
                    rows.append(_measured(side, name, path, threads, arguments.rounds))
    document = {"benchmark": "batching", "batch": BATCH, "rows": rows, "machine": machine()}
    print(write_result("batching", document))


def _models(side: int, folder: Path) -> dict[str, Path]:
    recipe = make_recipe("compact", overrides={"network": {"image_size": (side, side)}}).resolve()
    path = folder / "model.safetensors"
    card = ModelCard(preset="compact", network=recipe.network)
    write_model(path, build_draem(recipe.network).state_dict(), card)
    exported = {
        name: draem.export(path, name, path.with_suffix(suffix)).path
        for name, suffix in FORMATS.items()
        if name != "torch"
    }
    return {"torch": path, **exported}


def _measured(side: int, name: str, path: Path, threads: int, rounds: int) -> dict[str, object]:
    inspector = draem.load(path, device="cpu", threads=threads)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    one: list[float] = []
    batch: list[float] = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for row in range(BATCH):
            inspector.run(images[row : row + 1])
        between = time.perf_counter()
        inspector.run(images)
        batch.append(time.perf_counter() - between)
        one.append(between - started)
    alone, together = (1000 * statistics.median(taken[1:]) / BATCH for taken in (one, batch))
    print(
        f"{side:>5} {name:<10}{threads:>8}{alone:>10.2f} ms{together:>7.2f} ms"
        f"{alone / together:>7.2f}",
        flush=True,
    )
    return {
        "side": side,
        "runtime": name,
        "threads": threads,
        "one_by_one_ms": alone,
        "batch_ms": together,
        "ratio": alone / together,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
