from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from draem.errors import OutputError
from draem.evaluation.outcome import ScoredImage
from draem.evaluation.result import Evaluation
from draem.reporting import metrics_document, write_metrics
from draem.reporting.metrics_json import json_ready

FIGURES = {
    "image_auroc": 0.9,
    "image_ap": 0.95,
    "image_f1_max": 0.85,
    "pixel_auroc": 0.97,
    "pixel_ap": 0.6,
    "pixel_f1_max": 0.55,
    "aupro_0.30": 0.88,
    "aupro_0.05": 0.66,
}


def test_document_has_the_promised_keys_and_values(evaluation: Evaluation) -> None:
    document = metrics_document(evaluation)
    assert set(document) == set(FIGURES) | {
        "by_defect",
        "mask_rule",
        "counts",
        "threshold",
        "false_reject_rate",
        "miss_rate",
        "review_threshold",
        "normal_review_rate",
        "anomalous_review_rate",
        "model",
        "data",
        "images",
    }
    assert {key: document[key] for key in FIGURES} == FIGURES
    assert document["by_defect"] == {
        "scratch": {**FIGURES, "image_auroc": 0.8},
        "dent": {**FIGURES, "image_auroc": 0.7, "pixel_ap": None},
    }
    assert document["mask_rule"] == "half"
    assert document["counts"] == {"normal": 4, "anomalous": 6, "scratch": 3, "dent": 3}
    assert document["threshold"] == 0.5
    assert document["false_reject_rate"] == 0.25
    assert document["review_threshold"] is document["normal_review_rate"] is None
    assert document["data"] == str(Path("parts/screw"))
    images = document["images"]
    assert isinstance(images, list)
    assert len(images) == 10
    assert images[4] == {
        "image": "test/scratch/0.png",
        "defect": "scratch",
        "label": 1,
        "anomaly_score": 0.2,
    }


def test_written_file_is_strict_json_with_null_for_undefined(
    no_anomalous: Evaluation, tmp_path: Path
) -> None:
    path = write_metrics(replace(no_anomalous, threshold=None), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "metrics.json"

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert all(document[key] is None for key in FIGURES)
    assert document["threshold"] is None
    assert document["miss_rate"] is None
    assert document["model"]["fingerprint"] == "abc123"
    assert document["model"]["image_size"] == [24, 32]
    assert '\n  "image_auroc": null' in path.read_text("utf-8")


def test_a_metric_that_was_not_computed_is_null(evaluation: Evaluation) -> None:
    document = metrics_document(replace(evaluation, metrics={"image_auroc": 1.0}))
    assert document["image_auroc"] == 1.0
    assert document["aupro_0.05"] is None


def test_unusual_file_names_are_written(evaluation: Evaluation, tmp_path: Path) -> None:
    names = ("Schräube 1.png", 'a"b.png', "caf\udce9.png", "部品.png")
    images = tuple(ScoredImage(Path("elsewhere") / name, "dent", 1, 0.5) for name in names)
    path = write_metrics(replace(evaluation, images=images), tmp_path)
    read = [image["image"] for image in json.loads(path.read_text("utf-8"))["images"]]
    assert read == [
        "elsewhere/Schräube 1.png",
        'elsewhere/a"b.png',
        "elsewhere/caf?.png",
        "elsewhere/部品.png",
    ]


def test_json_ready_turns_foreign_types_into_plain_ones() -> None:
    ready = json_ready(
        {
            "array": np.array([1.5, math.inf]),
            "scalar": np.float32(0.5),
            "count": np.int64(3),
            "flag": True,
            1: {"nested": (None, "text")},
            "set": {2},
        }
    )
    assert ready == {
        "array": [1.5, None],
        "scalar": 0.5,
        "count": 3,
        "flag": True,
        "1": {"nested": [None, "text"]},
        "set": [2],
    }
    assert json.loads(json.dumps(ready)) == ready


def test_a_file_in_the_folders_place_is_explained(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken"):
        write_metrics(evaluation, tmp_path / "taken")
