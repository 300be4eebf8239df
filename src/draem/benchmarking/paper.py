"""What the paper of DRAEM reports, to stand next to what a benchmark measures.

Source:
    Zavrtanik, Kristan and Skocaj, DRAEM, ICCV 2021: tables 1 and 3 (MVTec AD), table 5 (DAGM).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Image AUROC, pixel AUROC, pixel AP, in percent.
_MVTEC_AD = {
    "bottle": (99.2, 99.1, 86.5),
    "cable": (91.8, 94.7, 52.4),
    "capsule": (98.5, 94.3, 49.4),
    "carpet": (97.0, 95.5, 53.5),
    "grid": (99.9, 99.7, 65.7),
    "hazelnut": (100.0, 99.7, 92.9),
    "leather": (100.0, 98.6, 75.3),
    "metal_nut": (98.7, 99.5, 96.3),
    "pill": (98.9, 97.6, 48.5),
    "screw": (93.9, 97.6, 58.2),
    "tile": (99.6, 99.2, 92.3),
    "toothbrush": (100.0, 98.1, 44.7),
    "transistor": (93.1, 90.9, 50.7),
    "wood": (99.1, 96.4, 77.7),
    "zipper": (100.0, 98.8, 81.5),
}
_COLUMNS = ("image_auroc", "pixel_auroc", "pixel_ap")

PAPER: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "mvtec_ad": MappingProxyType(
            {
                category: MappingProxyType(
                    {name: value / 100 for name, value in zip(_COLUMNS, figures, strict=True)}
                )
                for category, figures in _MVTEC_AD.items()
            }
        )
    }
)
"""By layout, category and metric, as shares. The mask rule of the paper's code is `upstream`."""

PAPER_MEAN: Mapping[str, tuple[int, Mapping[str, float]]] = MappingProxyType(
    {
        "dagm": (
            10,
            MappingProxyType(
                {
                    "image_auroc": 0.99,
                    "true_positive_rate": 0.965,
                    "true_negative_rate": 0.994,
                    "accuracy": 0.985,
                }
            ),
        ),
    }
)
"""Where the paper has only a mean: by layout, over how many categories, and by metric."""
