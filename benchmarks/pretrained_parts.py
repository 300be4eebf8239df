"""What does each part of `pretrained` contribute?

    python benchmarks/pretrained_parts.py CATEGORY... [--seeds 0] [--only "no light" ...]

Trains and evaluates once a case, category and seed, all with the same steps. A case leaves one part
out, or changes its size. What the JSON holds already is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import draem
from draem.evaluation.evaluator import evaluate
from draem.networks import pretrained as networks
from draem.networks.pretrained import VIEWS, View
from draem.training import evidence, memory
from draem.training import pretrained as training
from machine import earlier, machine, write_result

NAME = "pretrained-parts"
FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap")
FINE, COARSE, GRAIN, PLACE = VIEWS

Patch = tuple[Any, str, Any]


def _views(*views: View) -> list[Patch]:
    return [(networks, "VIEWS", views)]


def _shares_only(
    network: networks.PretrainedDraem, _normal: object, _simulated: object, shares: Any, _seed: int
) -> None:
    """Leave the weights where they are before anything is learned."""
    both = shares.repeat(2)
    network.weights.copy_(both / both.sum())


def _anywhere(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without what is usual at a place."""

    def changed(*given: Any, by_place: bool, **named: Any) -> Any:
        del by_place
        return function(*given, by_place=False, **named)

    return changed


def _every(change: Callable[[View], View]) -> list[Patch]:
    return _views(*map(change, VIEWS))


CASES: dict[str, tuple[dict[str, int], list[Patch]]] = {
    "complete": ({}, []),
    "no counterpart but the mean": ({"subspaces": 1, "subspace_rank": 1}, []),
    "64 subspaces": ({"subspaces": 64}, []),
    "512 subspaces": ({"subspaces": 512}, []),
    "1,024 subspaces": ({"subspaces": 1024}, []),
    "rank 4": ({"subspace_rank": 4}, []),
    "no simulated anomalies": ({}, [(training, "fit_discriminator", _shares_only)]),
    "weights free of their shares": ({}, [(evidence, "_EVEN", 0.0)]),
    "no fine view": ({}, _views(GRAIN, COARSE, PLACE)),
    "no coarse view": ({}, _views(FINE, GRAIN, PLACE)),
    "no grain view": ({}, _views(FINE, COARSE, PLACE)),
    "no place view": ({}, _views(FINE, COARSE, GRAIN)),
    "no place": (
        {},
        [
            *_views(FINE, COARSE, GRAIN),
            (training, "describe_normal", _anywhere(evidence.describe_normal)),
            (training, "cross_fitted_scores", _anywhere(evidence.cross_fitted_scores)),
        ],
    ),
    "fine view alone": ({}, _views(FINE)),
    "no stride 16": ({}, _every(lambda v: v._replace(levels=(v.levels[0], min(v.levels[1], 2))))),
    "not whitened": ({}, [(memory, "_WHITENING", 0.0)]),
    "fully whitened": ({}, [(memory, "_WHITENING", 1.0)]),
    "no light": ({}, [(networks, "_PLAUSIBLE_SHIFT", 1e9)]),
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("category", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = earlier(NAME) or []
    for category, name, seed in _cases(arguments):
        case = {"category": category.name, "case": name, "seed": seed}
        if any(case.items() <= run.items() for run in runs):
            continue
        runs.append(case | _measure(category, name, seed))
        write_result(NAME, {"benchmark": NAME, "machine": machine(), "runs": runs})
        print(_line(runs[-1]), flush=True)


def _cases(arguments: argparse.Namespace) -> Iterator[tuple[Path, str, int]]:
    for seed in arguments.seeds:
        for category in arguments.category:
            yield from ((category, name, seed) for name in arguments.only)


def _measure(category: Path, name: str, seed: int) -> dict[str, Any]:
    network, patches = CASES[name]
    overrides = {"network": network, "training": {"seed": seed}}
    recipe = draem.make_recipe("pretrained", overrides=overrides)
    with TemporaryDirectory() as folder, _patched(patches):
        result = draem.train(category, Path(folder) / "run", recipe, device="cpu")
        found = evaluate(result.model, category, device="cpu")
        kilobytes = result.model.stat().st_size // 1000
    return {
        "steps": result.steps,
        "training_seconds": round(result.seconds, 1),
        "model_kilobytes": kilobytes,
        "miss_rate": found.miss_rate,
        "false_reject_rate": found.false_reject_rate,
        **{figure: found.metrics.get(figure) for figure in FIGURES},
    }


@contextmanager
def _patched(patches: list[Patch]) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, value in patches:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _line(run: dict[str, Any]) -> str:
    figures = " / ".join("" if run[f] is None else f"{100 * run[f]:.1f}" for f in FIGURES)
    return f"{run['category']:<12} {run['case']:<30} {figures}"


if __name__ == "__main__":
    main()
