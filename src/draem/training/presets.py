"""The presets: named recipes, each value with a reason in `docs/decisions/`."""

from __future__ import annotations

from typing import Any

from draem.config import PresetName

PRESETS: dict[PresetName, dict[str, dict[str, Any]]] = {
    "full": {
        "network": {},
        "simulation": {"profile": "paper"},
        "training": {"epochs": 700},
    },
    "compact": {
        "network": {
            "reconstructive_width": 32,
            "discriminative_width": 16,
            "architecture": "compact",
            "scales": "auto",
            "image_size": "auto",
            "interpolation": "area",
            "smoothing": 5,
        },
        "simulation": {"profile": "varied"},
        "training": {
            "minutes": 10.0,
            "init": "warm",
            "batch_size": 16,
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "ssim_of": "mean",
            "focal_gamma": 1.0,
            "average_decay": 0.995,
        },
    },
}
