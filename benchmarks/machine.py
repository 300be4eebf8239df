"""What a benchmark ran on, for the JSON that it writes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PLOTS = Path(__file__).parents[1] / "docs" / "performance"
_LIBRARIES = (
    *("draem", "torch", "lightning", "numpy", "opencv-python-headless"),
    *("onnxruntime", "openvino", "MNN"),
)


def machine(device: str = "cpu") -> dict[str, object]:
    """Processor, cores, GPU where one was used, and the versions of the libraries installed."""
    facts: dict[str, object] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[name] = metadata.version(name)
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            facts["gpu"] = torch.cuda.get_device_name()
    return facts


def write_result(name: str, document: dict[str, object]) -> Path:
    """Write a result to `benchmarks/results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def earlier(name: str, key: str = "runs") -> Any:
    """What `write_result` has written before under a key; None if there is no file."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))[key] if path.exists() else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = {"amx_bf16", "avx512f", "avx2"} & set(facts.get("flags", "").split())
    return f"{facts.get('model name', platform.processor())} ({', '.join(sorted(flags))})"
