"""How well does a preset detect after a given time of training?

    python benchmarks/accuracy.py [CATEGORY ...] [--preset compact] [--minutes 10] [--seeds 0]

Trains and evaluates once a category and seed, one after the other, and prints a table. Without a
category it renders the demo's product. Nothing is chosen by the test images: the last weights are
measured. Leave the machine alone meanwhile: the length of a run is measured in minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import draem
from draem.datasets.product import render_product
from draem.evaluation.evaluate import evaluate
from machine import machine, write_result

COLUMNS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro_0.30", "aupro_0.05")


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        categories = arguments.category or [
            render_product(Path(scratch) / "rendered product", seed=0)
        ]
        print(f"{'category':<24} seed  steps  " + "  ".join(f"{name:>11}" for name in COLUMNS))
        for category in categories:
            for seed in arguments.seeds:
                out = arguments.runs or Path(scratch)
                run = _measure(category, seed, out / f"{category.name}-{seed}", arguments)
                runs.append(run)
                figures = "  ".join(f"{100 * run['half'][name]:11.1f}" for name in COLUMNS)
                print(f"{category.name:<24} {seed:>4}  {run['steps']:>5}  {figures}", flush=True)
    document = {
        "benchmark": "accuracy",
        "preset": arguments.preset,
        "machine": machine(arguments.device),
        "runs": runs,
    }
    print(write_result(arguments.name, document))


def _measure(
    category: Path, seed: int, out: Path, arguments: argparse.Namespace
) -> dict[str, object]:
    length = {"epochs": arguments.epochs, "minutes": arguments.minutes}
    if arguments.epochs is None and arguments.minutes is None:
        length["minutes"] = 10.0
    recipe = draem.make_recipe(
        arguments.preset,
        arguments.recipe,
        {
            "network": {"image_size": arguments.image_size},
            "simulation": {"textures": arguments.textures},
            "training": {**length, "seed": seed},
        },
    )
    result = draem.train(category, out, recipe, device=arguments.device)
    started = time.perf_counter()
    half = evaluate(result.model, category, device=arguments.device)
    seconds = time.perf_counter() - started
    upstream = evaluate(result.model, category, mask_rule="upstream", device=arguments.device)
    return {
        "category": category.name,
        "seed": seed,
        "steps": result.steps,
        "training_seconds": round(result.seconds, 1),
        "evaluation_seconds": round(seconds, 1),
        "counts": half.counts,
        "half": half.metrics,
        "upstream": upstream.metrics,
        "by_defect": half.metrics_by_defect,
        "threshold": half.threshold,
        "false_reject_rate": half.false_reject_rate,
        "miss_rate": half.miss_rate,
        "card": result.card.model_dump(mode="json"),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("category", nargs="*", type=Path, help="categories in MVTec layout")
    parser.add_argument("--preset", default="compact", choices=("compact", "full"))
    parser.add_argument("--recipe", type=Path, help="TOML file")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--textures", help="folder of anomaly sources")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="training time; 10 unless given")
    length.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    parser.add_argument("--name", default="accuracy", help="of the JSON in benchmarks/results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
