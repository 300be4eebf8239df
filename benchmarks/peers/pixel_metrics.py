"""Computes the pixel metrics of one library, in a process of its own, as often as it is asked.

    PYTHON pixel_metrics.py draem|scikit-learn|anomalib

Prints `ready`, then answers each line with a line. A request says `images`, `side`, `regions` and
`keep`: whether the images are made before the time is taken, or one by one while it runs, so that
memory shows what the metrics hold. The answer says `seconds`, `grown_mib` and `values`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SEED = 0
SMALLEST, LARGEST = 2, 24
"""Radius of a defect in pixels."""
BATCH = 32
"""anomalib's own batch size when it evaluates."""

Images = Iterable[tuple[np.ndarray, np.ndarray]]
Values = dict[str, float]


def main() -> None:
    """Import, then answer."""
    count = {"draem": draem, "scikit-learn": scikit_learn, "anomalib": anomalib}[sys.argv[1]]()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(count, **request)), flush=True)


def answer(
    count: Callable[[Images], Values], images: int, side: int, regions: int, keep: bool
) -> dict[str, object]:
    """Take time and memory of one set of images."""
    made: Images = scored_images(images, side, regions)
    list(scored_images(2, side, regions))  # what making an image takes is not the metrics'
    if keep:
        made = list(made)
    before = peak_mib()
    started = time.perf_counter()
    values = count(made)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "grown_mib": peak_mib() - before, "values": values}


def scored_images(images: int, side: int, regions: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Anomaly maps like a trained network's with their true masks, every other one normal.

    Args:
        images: How many.
        side: Of a map, in pixels.
        regions: In each anomalous image; none touches another.

    Yields:
        (side, side) float32 in [0, 1], and (side, side) bool.
    """
    rng = np.random.default_rng(SEED)
    for number in range(images):
        mask = np.zeros((side, side), bool)
        if number % 2 and regions:
            _mark(mask, rng, regions)
        logits = rng.standard_normal((side, side), np.float32) * np.float32(6) - np.float32(14)
        logits[mask] += np.float32(17)
        yield 1 / (1 + np.exp(-logits)), mask


def _mark(mask: np.ndarray, rng: np.random.Generator, regions: int) -> None:
    cells = math.ceil(math.sqrt(regions))
    cell = mask.shape[0] // cells
    rows, columns = np.ogrid[:cell, :cell]
    for place in rng.choice(cells * cells, regions, replace=False):
        radius = rng.uniform(SMALLEST, max(SMALLEST, min(LARGEST, cell / 2 - 2)))
        disc = (rows - cell / 2) ** 2 + (columns - cell / 2) ** 2 <= radius**2
        top, left = cell * (place // cells), cell * (place % cells)
        mask[top : top + cell, left : left + cell] = disc


def peak_mib() -> float:
    """The most memory that this process has held; Linux alone tells.

    `getrusage` would count what the parent held when it started this process.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def draem() -> Callable[[Images], Values]:
    """Ours: histograms, image by image."""
    from draem.evaluation.histograms import PixelHistograms
    from draem.evaluation.metrics import aupro, pixel_ap, pixel_auroc, pixel_f1_max

    def count(images: Images) -> Values:
        histograms = PixelHistograms.empty()
        for anomaly_map, mask in images:
            histograms.update(anomaly_map, mask)
        return {
            "pixel_auroc": pixel_auroc(histograms),
            "pixel_ap": pixel_ap(histograms),
            "pixel_f1_max": pixel_f1_max(histograms).f1,
            "aupro": aupro(histograms),
        }

    return count


def scikit_learn() -> Callable[[Images], Values]:
    """Two of the four; scikit-learn has no maximum of F1 and no AUPRO."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    def count(images: Images) -> Values:
        maps, masks = [], []
        for anomaly_map, mask in images:
            maps.append(anomaly_map.ravel())
            masks.append(mask.ravel())
        scores, labels = np.concatenate(maps), np.concatenate(masks)
        return {
            "pixel_auroc": float(roc_auc_score(labels, scores)),
            "pixel_ap": float(average_precision_score(labels, scores)),
        }

    return count


def anomalib() -> Callable[[Images], Values]:
    """Its four metrics, fed as its engine does, with batches that hold the two fields they read."""
    import torch
    from anomalib.metrics import AUPR, AUPRO, AUROC, F1Max

    kinds = {"pixel_auroc": AUROC, "pixel_ap": AUPR, "pixel_f1_max": F1Max, "aupro": AUPRO}

    def count(images: Images) -> Values:
        metrics = {name: kind(["anomaly_map", "gt_mask"]) for name, kind in kinds.items()}
        images = iter(images)
        for first in images:
            maps, masks = zip(*chain([first], islice(images, BATCH - 1)), strict=True)
            batch = SimpleNamespace(
                anomaly_map=torch.from_numpy(np.stack(maps)),
                gt_mask=torch.from_numpy(np.stack(masks)),
            )
            for metric in metrics.values():
                metric.update(batch)
        return {name: float(metric.compute()) for name, metric in metrics.items()}

    return count


if __name__ == "__main__":
    main()
