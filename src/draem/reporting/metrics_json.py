"""`metrics.json`: what an evaluation found, for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from draem.evaluation.result import Evaluation
from draem.files import make_folder, write_text
from draem.reporting.wording import METRICS, image_name, printable


def metrics_document(evaluation: Evaluation) -> dict[str, object]:
    """The whole evaluation but its pictures and curves, ready for JSON.

    The eight metrics stand at the top level and, for each defect type, under `by_defect`;
    an undefined figure is None. Images are named by their path below the data folder.
    """
    images = [
        {
            "image": image_name(scored.path, evaluation.data),
            "defect": printable(scored.defect),
            "label": scored.label,
            "anomaly_score": _number(scored.anomaly_score),
        }
        for scored in evaluation.images
    ]
    return {
        **_figures(evaluation.metrics),
        "by_defect": {
            printable(defect): _figures(metrics)
            for defect, metrics in evaluation.metrics_by_defect.items()
        },
        "mask_rule": evaluation.mask_rule,
        "counts": json_ready(evaluation.counts),
        "threshold": json_ready(evaluation.threshold),
        "false_reject_rate": json_ready(evaluation.false_reject_rate),
        "miss_rate": json_ready(evaluation.miss_rate),
        "review_threshold": json_ready(evaluation.review_threshold),
        "normal_review_rate": json_ready(evaluation.normal_review_rate),
        "anomalous_review_rate": json_ready(evaluation.anomalous_review_rate),
        "model": json_ready(evaluation.model),
        "data": printable(str(evaluation.data)),
        "images": images,
    }


def write_metrics(evaluation: Evaluation, folder: str | Path) -> Path:
    """Write `metrics.json`, making the folder if it is missing.

    Returns:
        The file's path.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    document = metrics_document(evaluation)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(make_folder(folder) / "metrics.json", text + "\n")


def json_ready(value: object) -> object:
    """The same value in JSON's own types; NaN and infinity become None.

    Examples:
        >>> json_ready({"size": (256, 256), "pixel_ap": float("nan"), "file": Path("a.onnx")})
        {'size': [256, 256], 'pixel_ap': None, 'file': 'a.onnx'}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(item) for item in value]
    return printable(str(value))


def _figures(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {metric.key: _number(metrics.get(metric.key, math.nan)) for metric in METRICS}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
