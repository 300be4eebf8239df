"""One run of a benchmark: train a model of one category, test it, and keep what was found."""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from draem.datasets.layouts.registry import open_dataset
from draem.errors import DraemError, DraemWarning, TrainingInterrupted
from draem.evaluation.evaluator import evaluate
from draem.evaluation.result import Evaluation, MaskRule
from draem.files import make_folder, write_text
from draem.reporting import write_metrics, write_report
from draem.training.fit import train
from draem.training.recipe import make_recipe

RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What all runs of a benchmark have in common.

    Attributes:
        root: The data set.
        layout: Its layout.
        out: Where all goes.
        overrides: Options of the recipe, as `make_recipe` takes them.
        recipe: A TOML file with others, or None.
        mask_rule: Which mask pixels count.
        device: Where to train and to test.
    """

    root: Path
    layout: str
    out: Path
    overrides: Mapping[str, Mapping[str, Any]]
    recipe: Path | None
    mask_rule: MaskRule
    device: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        category: Name of the product.
        preset: Name of the preset.
        seed: Where all randomness starts.
    """

    category: str
    preset: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its model, its report and its result are, below the benchmark's folder."""
        return Path("runs", self.category, self.preset, f"seed-{self.seed}")


def earlier_result(run: Run, out: Path) -> dict[str, Any] | None:
    """What a finished run found; None if it did not finish."""
    path = out / run.path / RESULT
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("status") == "done" else None


def perform(run: Run, plan: Plan) -> dict[str, Any]:
    """Train and test, or go on where an earlier start was cut short; write the result last.

    Returns:
        The result. A `DraemError` becomes a result too, so that other runs go on.

    Raises:
        TrainingInterrupted: Ctrl-C was pressed.
    """
    folder = plan.out / run.path
    known = asdict(run)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", DraemWarning)
            measured = _measured(run, plan, folder)
        said = {str(each.message) for each in told if issubclass(each.category, DraemWarning)}
        result = known | {"status": "done"} | measured | {"warnings": sorted(said)}
    except TrainingInterrupted:
        raise
    except DraemError as error:
        result = known | {"status": "failed", "error": str(error)}
    write_text(make_folder(folder) / RESULT, json.dumps(result, indent=2) + "\n")
    return result


def _measured(run: Run, plan: Plan, folder: Path) -> dict[str, Any]:
    category = open_dataset(plan.root, plan.layout)[run.category]
    overrides = {name: dict(options) for name, options in plan.overrides.items()}
    overrides.setdefault("training", {})["seed"] = run.seed
    recipe = make_recipe(run.preset, plan.recipe, overrides)
    started = time.perf_counter()
    model = folder / "model.safetensors"
    if not model.is_file():
        resume = (folder / "recipe.toml").is_file()
        train(category, folder, recipe, resume=resume, device=plan.device)
    trained = time.perf_counter()
    evaluation = evaluate(model, category, mask_rule=plan.mask_rule, device=plan.device)
    tested = time.perf_counter()
    write_metrics(evaluation, folder)
    write_report(evaluation, folder, title=run.category)
    return {
        "figures": figures_of(evaluation),
        "counts": evaluation.counts,
        "threshold": evaluation.threshold,
        "training_seconds": round(trained - started, 2),
        "test_seconds": round(tested - trained, 2),
        "peak_memory_mib": _peak_memory(),
        "fingerprint": evaluation.model.get("fingerprint"),
    }


def figures_of(evaluation: Evaluation) -> dict[str, float]:
    """All metrics that are defined, and what the decisions at the threshold come to.

    The rates are those that DAGM is reported with: the share of anomalous images that are rejected,
    of normal ones that are not, and of all that are judged rightly.
    """
    found = {name: value for name, value in evaluation.metrics.items() if math.isfinite(value)}
    outcome = evaluation.outcome
    if outcome is None:
        return found
    rates = {
        "false_reject_rate": outcome.false_reject_rate,
        "miss_rate": outcome.miss_rate,
        "true_positive_rate": 1 - outcome.miss_rate,
        "true_negative_rate": 1 - outcome.false_reject_rate,
        "accuracy": _accuracy(evaluation),
    }
    return found | {name: value for name, value in rates.items() if math.isfinite(value)}


def _accuracy(evaluation: Evaluation) -> float:
    threshold = evaluation.threshold
    assert threshold is not None
    right = sum(
        (image.anomaly_score >= threshold) == bool(image.label) for image in evaluation.images
    )
    return right / len(evaluation.images) if evaluation.images else math.nan


def _peak_memory() -> float | None:
    """Most memory of this process so far, in MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kilobytes / (2**20 if sys.platform == "darwin" else 2**10), 1)
