"""The presets: named recipes, each value with a reason in `docs/decisions/`."""

from __future__ import annotations

from typing import Any

from draem.config import PresetName

PRESETS: dict[PresetName, dict[str, dict[str, Any]]] = {
    # The paper's recipe, with held-out images, a moving average and the device's own precision.
    "full": {
        "network": {},
        "simulation": {"profile": "paper"},
        "training": {"epochs": 700},
    },
    # The published code. What still differs from it is in `docs/method.md`.
    "published": {
        "network": {},
        "simulation": {
            "profile": "upstream",
            "texture_interpolation": "bilinear",
            "with_replacement": True,
        },
        "training": {
            "epochs": 700,
            "schedule": "upstream",
            "average_decay": 0.0,
            "precision": "32",
            "held_out_share": 0.0,
        },
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
            "steps": 1650,
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
    "pretrained": {
        "network": {
            "architecture": "pretrained",
            "image_size": "auto",
            "interpolation": "area",
            "smoothing": 9,
        },
        "simulation": {"profile": "varied", "coarse_share": 0.0, "crop": 4096},
        "training": {
            "steps": 16,
            "batch_size": 16,
            "held_out_share": 0.0,
            "false_reject_rate": 0.05,
        },
    },
}
