"""What does each part of the method contribute? The ablations of the paper's table 4.

    python benchmarks/ablations.py [CATEGORY] [--steps 1200] [--seeds 0] [--preset compact]

Trains once a case and seed, from scratch, with the profile `paper` but for its rotation, at 128x128
unless --image-size says otherwise, and for equally many steps, so that nothing but the case
differs; the network and the optimiser are the preset's. Without a category it renders the demo's
product.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import draem
from draem.demo.product_dataset import render_product
from draem.evaluation.evaluator import evaluate
from draem.imaging.encode import write_png
from machine import machine, write_result

COLUMNS = ("image_auroc", "pixel_auroc", "pixel_ap")

# Image AUROC, pixel AUROC and pixel AP of the paper, means over MVTec AD.
CASES: dict[str, tuple[dict[str, dict[str, Any]], tuple[float, float, float]]] = {
    "complete": ({}, (98.0, 97.3, 68.4)),
    "no reconstructive network": ({"network": {"reconstructive_width": 0}}, (93.9, 92.7, 62.5)),
    "rectangles instead of Perlin": (
        {"simulation": {"mask_shape": "rectangle"}},
        (96.9, 96.8, 65.1),
    ),
    "plain colours as source": (
        {"simulation": {"textures": "COLORS", "operation_count": 0}},
        (96.2, 92.6, 56.5),
    ),
    "no augmentation, no beta": (
        {"simulation": {"operation_count": 0, "opacity": (1.0, 1.0)}},
        (97.4, 94.5, 64.3),
    ),
    "augmentation, no beta": ({"simulation": {"opacity": (1.0, 1.0)}}, (97.4, 95.0, 64.5)),
    "beta, no augmentation": ({"simulation": {"operation_count": 0}}, (97.9, 97.1, 68.4)),
}


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        category = arguments.category or render_product(folder / "rendered product", seed=0)
        colors = _plain_colors(folder / "colors")
        runs: dict[str, list[dict[str, float]]] = {}
        print(f"{'':<30}  steps  " + "  ".join(f"{name:>11}" for name in COLUMNS) + "   paper")
        for name, (changes, paper) in CASES.items():
            runs[name] = []
            for seed in arguments.seeds:
                out = folder / f"{name}-{seed}"
                runs[name].append(_measure(category, changes, colors, seed, out, arguments))
            means = [statistics.mean(run[column] for run in runs[name]) for column in COLUMNS]
            steps = statistics.mean(run["steps"] for run in runs[name])
            figures = "  ".join(f"{100 * value:11.1f}" for value in means)
            print(f"{name:<30}  {steps:>5.0f}  {figures}   {paper}", flush=True)
            facts = {
                "benchmark": "ablations",
                "category": category.name,
                "preset": arguments.preset,
                **_length(arguments),
                "machine": machine(arguments.device),
                "paper": {case: dict(zip(COLUMNS, CASES[case][1], strict=True)) for case in runs},
                "runs": runs,
            }
            path = write_result(arguments.name, facts)
    print(path)


def _measure(
    category: Path,
    changes: dict[str, dict[str, Any]],
    colors: Path,
    seed: int,
    out: Path,
    arguments: argparse.Namespace,
) -> dict[str, float]:
    simulation = {"profile": "paper", "rotation_share": 0.0, **changes.get("simulation", {})}
    if simulation.get("textures") == "COLORS":
        simulation["textures"] = str(colors)
    recipe = draem.make_recipe(
        arguments.preset,
        overrides={
            "network": {"image_size": arguments.image_size, **changes.get("network", {})},
            "simulation": simulation,
            "training": {**_length(arguments), "init": "scratch", "seed": seed},
        },
    )
    result = draem.train(category, out, recipe, device=arguments.device)
    metrics = evaluate(result.model, category, device=arguments.device).metrics
    return {"seed": seed, "steps": result.steps, **metrics}


def _length(arguments: argparse.Namespace) -> dict[str, int | None]:
    """How long every case trains: so many epochs where asked for, otherwise so many steps."""
    steps = None if arguments.epochs else arguments.steps
    return {"epochs": arguments.epochs, "steps": steps}


def _plain_colors(folder: Path, count: int = 64) -> Path:
    """Textures of one colour each."""
    folder.mkdir()
    for number, color in enumerate(np.random.default_rng(0).integers(0, 256, (count, 3), np.uint8)):
        write_png(folder / f"{number:02d}.png", np.broadcast_to(color, (64, 64, 3)).copy())
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("category", nargs="?", type=Path, help="a category in MVTec layout")
    parser.add_argument("--preset", default="compact", choices=("compact", "full"))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=1200)
    length.add_argument("--epochs", type=int)
    parser.add_argument("--image-size", type=int, nargs=2, default=(128, 128))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default="ablations", help="of the JSON in benchmarks/results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
