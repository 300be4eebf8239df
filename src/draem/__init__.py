"""Find surface defects having only images of good parts: DRAEM, complete and practical.

Example:
    >>> import draem
    >>> result = draem.train("parts/", "runs/parts")  # doctest: +SKIP
    >>> inspector = draem.load(result.model)  # doctest: +SKIP
    >>> inspector.inspect(image).is_anomalous  # doctest: +SKIP
    False

Names are imported on first use, so that importing draem stays fast and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from draem._version import __version__
from draem.errors import DraemError, missing_dependency

if TYPE_CHECKING:
    from draem.benchmarking.benchmark import Benchmark, benchmark
    from draem.config import Recipe
    from draem.datasets.layouts.category import Category
    from draem.datasets.layouts.registry import Dataset, open_dataset
    from draem.evaluation.evaluator import evaluate
    from draem.evaluation.result import Evaluation
    from draem.exporting.exporter import Export, export
    from draem.inspection.calibrate_model import CalibrationResult, calibrate_model
    from draem.inspection.folder import inspect_files
    from draem.inspection.inspector import Inspection, Inspector
    from draem.inspection.loading import load
    from draem.inspection.regions import Region
    from draem.model_card import ModelCard
    from draem.networks.upstream import import_upstream
    from draem.reporting import write_metrics, write_report
    from draem.simulation.preview import simulate
    from draem.simulation.simulator import SimulatedBatch
    from draem.training.fit import TrainingResult, train
    from draem.training.recipe import make_recipe

__all__ = [
    "Benchmark",
    "CalibrationResult",
    "Category",
    "Dataset",
    "DraemError",
    "Evaluation",
    "Export",
    "Inspection",
    "Inspector",
    "ModelCard",
    "Recipe",
    "Region",
    "SimulatedBatch",
    "TrainingResult",
    "__version__",
    "benchmark",
    "calibrate_model",
    "evaluate",
    "export",
    "import_upstream",
    "inspect_files",
    "load",
    "make_recipe",
    "open_dataset",
    "simulate",
    "train",
    "write_metrics",
    "write_report",
]

_HOMES = {
    "Benchmark": "draem.benchmarking.benchmark",
    "Category": "draem.datasets.layouts.category",
    "Dataset": "draem.datasets.layouts.registry",
    "benchmark": "draem.benchmarking.benchmark",
    "open_dataset": "draem.datasets.layouts.registry",
    "CalibrationResult": "draem.inspection.calibrate_model",
    "Evaluation": "draem.evaluation.result",
    "Export": "draem.exporting.exporter",
    "Inspection": "draem.inspection.inspector",
    "Inspector": "draem.inspection.inspector",
    "ModelCard": "draem.model_card",
    "Recipe": "draem.config",
    "Region": "draem.inspection.regions",
    "SimulatedBatch": "draem.simulation.simulator",
    "TrainingResult": "draem.training.fit",
    "calibrate_model": "draem.inspection.calibrate_model",
    "evaluate": "draem.evaluation.evaluator",
    "export": "draem.exporting.exporter",
    "import_upstream": "draem.networks.upstream",
    "inspect_files": "draem.inspection.folder",
    "load": "draem.inspection.loading",
    "make_recipe": "draem.training.recipe",
    "simulate": "draem.simulation.preview",
    "train": "draem.training.fit",
    "write_metrics": "draem.reporting",
    "write_report": "draem.reporting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'draem' has no attribute {name!r}")
    try:
        home = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        raise missing_dependency(error, f"`draem.{name}`") from error
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
