"""How well does a preset detect after a given time of training?

    python benchmarks/time_to_quality.py [CATEGORY ...] [--minutes 2 5 10 | --steps 330 825 1650]
                                         [--seeds 0 1 2] [--init warm scratch]

Trains and evaluates once a category, start, length and seed, one after the other; prints a table
and draws image AUROC against the steps or the minutes of training. Without a category it renders
the demo's product. Nothing is chosen by the test images: the last weights are measured. What the
JSON holds already is not run again, so an interrupted benchmark goes on where it was. Leave the
machine alone meanwhile: the length of a run is measured in minutes. Where that cannot be had, give
as many steps as the machine makes in the time, left alone; work beside the run then costs time and
changes nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import draem
from draem.config import PresetName
from draem.demo.product_dataset import render_product
from draem.evaluation.evaluator import evaluate
from machine import PLOTS, earlier, machine, write_result

COLUMNS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro_0.30")
KEY = ("category", "preset", "changes", "init", "minutes", "epochs", "asked_steps", "seed")

Run = dict[str, Any]


def main() -> None:
    """Measure, print, write and draw."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        categories = arguments.category or [render_product(folder / "rendered product", seed=0)]
        runs: list[Run] = earlier(arguments.name) or []
        for category, init, length, seed in itertools.product(
            categories, arguments.init, _lengths(arguments), arguments.seeds
        ):
            case = {
                "category": category.name,
                "preset": arguments.preset,
                "changes": _changes(arguments),
                "init": init,
                **length,
                "seed": seed,
            }
            if any(all(run.get(key) == case[key] for key in KEY) for run in runs):
                continue
            place = arguments.runs or folder
            words = _length(case).replace(" ", "-")
            out = place / f"{category.name}-{arguments.preset}-{init}-{words}-{seed}"
            runs.append(case | _measure(category, case, out, arguments))
            write_result(arguments.name, {"benchmark": "time_to_quality", "runs": runs})
            print(_line(runs[-1:]), flush=True)
    _print_table(runs)
    print(_plot(arguments.name, runs))


def _measure(category: Path, case: Run, out: Path, arguments: argparse.Namespace) -> Run:
    length = {
        "epochs": case["epochs"],
        "minutes": case["minutes"],
        "steps": case["asked_steps"],
    }
    recipe = draem.make_recipe(
        arguments.preset,
        arguments.recipe,
        {
            "network": {"image_size": arguments.image_size},
            "simulation": {"textures": arguments.textures},
            "training": {**length, "seed": case["seed"], "init": case["init"]},
        },
    )
    resume = (out / "recipe.toml").exists()
    result = draem.train(category, out, recipe, resume=resume, device=arguments.device)
    started = time.perf_counter()
    half = evaluate(result.model, category, device=arguments.device)
    seconds = time.perf_counter() - started
    upstream = evaluate(result.model, category, mask_rule="upstream", device=arguments.device)
    return {
        "machine": machine(arguments.device),
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


def _lengths(arguments: argparse.Namespace) -> list[Run]:
    none = {"minutes": None, "epochs": None, "asked_steps": None}
    if arguments.steps:
        return [none | {"asked_steps": steps} for steps in arguments.steps]
    if arguments.epochs:
        return [none | {"epochs": arguments.epochs}]
    return [none | {"minutes": minutes} for minutes in arguments.minutes]


def _length(run: Run) -> str:
    if run["epochs"]:
        return f"{run['epochs']} epochs"
    return f"{run['minutes']:g} min" if run["minutes"] else f"{run['asked_steps']} steps"


def _changes(arguments: argparse.Namespace) -> str:
    """What was asked for beside the preset, in words."""
    asked = {
        "recipe": arguments.recipe and arguments.recipe.name,
        "image size": arguments.image_size and "x".join(map(str, arguments.image_size)),
        "textures": arguments.textures and Path(arguments.textures).name,
    }
    return ", ".join(f"{name} {value}" for name, value in asked.items() if value)


def _groups(runs: list[Run]) -> list[list[Run]]:
    """Runs that differ by their seed alone, in order of length."""

    def key(run: Run) -> tuple[Any, ...]:
        names = tuple(run[name] for name in ("category", "preset", "changes", "init"))
        return *names, *(run.get(key) or 0 for key in ("minutes", "epochs", "asked_steps"))

    ordered = sorted(runs, key=key)
    return [list(group) for _, group in itertools.groupby(ordered, key=key)]


def _print_table(runs: list[Run]) -> None:
    print()
    print(f"{'':<40} seeds  steps  " + "  ".join(f"{name:>11}" for name in COLUMNS))
    for group in _groups(runs):
        print(_line(group))


def _line(group: list[Run]) -> str:
    """Mean over the seeds and, of several, the distance from the lowest to the highest."""
    first = group[0]
    name = f"{first['category']}, {first['init']}, {_length(first)}"
    steps = statistics.mean(run["steps"] for run in group)
    cells = []
    for column in COLUMNS:
        values = [100 * run["half"][column] for run in group]
        spread = f" ±{(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.1f}{spread}".rjust(11))
    return f"{name:<40} {len(group):>5}  {steps:>5.0f}  " + "  ".join(cells)


def _plot(name: str, runs: list[Run]) -> Path:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    by_steps = all(run["asked_steps"] for run in runs)
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    series: dict[tuple[str, str], list[list[Run]]] = {}
    for group in _groups(runs):
        series.setdefault((group[0]["category"], group[0]["init"]), []).append(group)
    names = sorted({category for category, _ in series})
    for (category, init), groups in series.items():
        x = [statistics.mean(_spent(run, by_steps) for run in group) for group in groups]
        y = [[100 * run["half"]["image_auroc"] for run in group] for group in groups]
        color = f"C{names.index(category)}"
        axes.plot(
            x,
            [statistics.mean(values) for values in y],
            "-" if init == "warm" else "--",
            color=color,
            marker="o",
            label=f"{category}, {init}",
        )
        axes.vlines(x, [min(values) for values in y], [max(values) for values in y], color=color)
    unit = "steps" if by_steps else "minutes"
    axes.set(xlabel=f"{unit} of training", ylabel="image AUROC, %", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    path = PLOTS / f"{name}.png"
    figure.savefig(path, dpi=130)
    return path


def _spent(run: Run, by_steps: bool) -> float:
    """How long a run was: in steps, or in minutes of training."""
    return run["steps"] if by_steps else run["training_seconds"] / 60


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("category", nargs="*", type=Path, help="categories in MVTec layout")
    parser.add_argument("--preset", default="compact", choices=get_args(PresetName))
    parser.add_argument("--recipe", type=Path, help="TOML file")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--textures", help="folder of anomaly sources")
    parser.add_argument("--init", nargs="+", choices=("warm", "scratch"), default=["warm"])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 10])
    length.add_argument("--epochs", type=int)
    length.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    parser.add_argument("--name", default="time-to-quality", help="of the files in results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
