"""What does `pretrained` add to a plain nearest neighbour of the same encoder's features?

    python benchmarks/nearest_neighbour.py CATEGORY... [--seeds 0]

Measures two baselines on the test images: the distance to the nearest of 16,384 random normal
features, and the same divided by what is usual at its place. Nothing of them is trained. Then
prints and draws them next to what `time_to_quality.py` found of `compact` and `pretrained` on the
same categories.

Source:
    Roth et al., PatchCore, CVPR 2022, with a random choice in place of the coreset; Defard et al.,
    PaDiM, 2021, for what is usual at a place. Neighbouring cells are averaged, as in PatchCore.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import draem
from draem.datasets.mvtec import read_normal_images
from draem.datasets.samples import Sample, read_test_samples
from draem.evaluation.histograms import PixelHistograms
from draem.evaluation.metrics import all_metrics, binarize_mask
from draem.imaging.decode import decode_image
from draem.imaging.mask import read_masks
from draem.imaging.resize import resize_image
from draem.inspection.scoring import network_filter_side
from draem.inspection.torch_scoring import anomaly_scores
from draem.networks.encoder import Encoder, load_encoder
from draem.networks.pretrained import View, joint_features
from draem.training.images import resolve_recipe
from machine import PLOTS, RESULTS, machine, write_result

STORED = 16_384
VIEW = View((1, 3), unit_length=False, pooling=3, shrunk=1, by_place=False, share=1)
RUNS = ("time-to-quality-compact-cpu", "accuracy-pretrained-cpu")
SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap")

Size = tuple[int, int]


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("category", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    runs = [_measure(path, seed) for path in arguments.category for seed in arguments.seeds]
    write_result("nearest-neighbour", {"machine": machine(), "runs": runs})
    methods = _methods(runs)
    _print(methods)
    print(_draw(methods))


@torch.inference_mode()
def _measure(category: Path, seed: int) -> dict[str, Any]:
    network = resolve_recipe(draem.make_recipe("pretrained"), category).network
    size, side = network.image_size, network_filter_side(network)
    encoder = load_encoder()
    started = time.perf_counter()
    normal = [_levels(encoder, path, size) for path in read_normal_images(category)]
    usual = [float(_stacked(normal, place).std()) for place in range(4)]
    lengths = torch.tensor([one * normal[0][i].shape[1] ** 0.5 for i, one in enumerate(usual)])
    cells = torch.cat([joint_features(levels, lengths, VIEW) for levels in normal])
    generator = torch.Generator().manual_seed(seed)
    halves = torch.randperm(len(cells), generator=generator) % 2
    flat = cells.flatten(0, 2)
    memory = flat[torch.randperm(len(flat), generator=generator)[:STORED]]
    # What is usual at a place is told by images that are not in the memory.
    distances = torch.stack(
        [_distances(cells[i], cells[halves != halves[i]], generator) for i in range(len(cells))]
    )  # (images, height, width)
    here = functional.avg_pool2d(distances.mean(0)[None], 3, 1, 1, count_include_pad=False)[0]
    spread = functional.avg_pool2d(distances.std(0)[None], 3, 1, 1, count_include_pad=False)[0]
    spread = spread + 0.3 * distances.std()
    plain, placed = [], []
    samples = read_test_samples(category)
    for sample in samples:
        features = joint_features(_levels(encoder, sample.image, size), lengths, VIEW)[0]
        found = torch.cdist(features.flatten(0, 1), memory).min(1).values.view(features.shape[:2])
        plain.append(found)
        placed.append((found - here) / spread)
    return {
        "category": category.name,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "nearest neighbour": _metrics(plain, samples, size, side),
        "nearest neighbour, by place": _metrics(placed, samples, size, side),
    }


def _levels(encoder: Encoder, path: Path, size: Size) -> tuple[Tensor, ...]:
    pixels = resize_image(decode_image(path), size, "area")
    return tuple(encoder(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255))


def _stacked(normal: list[tuple[Tensor, ...]], place: int) -> Tensor:
    return torch.cat([levels[place] for levels in normal])


def _distances(image: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """(height, width) distances of one image's features to some of those of other images."""
    flat = others.flatten(0, 2)
    memory = flat[torch.randint(len(flat), (STORED // 4,), generator=generator)]
    return torch.cdist(image.flatten(0, 1), memory).min(1).values.view(image.shape[:2])


def _metrics(
    maps: list[Tensor], samples: tuple[Sample, ...], size: Size, side: int
) -> dict[str, float]:
    lowest = min(float(found.min()) for found in maps)
    middle = float(torch.stack([found.median() for found in maps]).median()) - lowest
    histograms, scores = PixelHistograms.empty(), []
    for found, sample in zip(maps, samples, strict=True):
        # Into [0, 1] without changing the order.
        found = (found - lowest) / (found - lowest + middle)
        pixels = functional.interpolate(found[None, None], size=size, mode="bilinear")
        scores.append(anomaly_scores(pixels, side).item())
        mask = _mask(sample, size)
        if mask is not None or not sample.label:
            histograms.update(pixels[0, 0].numpy(), mask)
    return all_metrics(scores, [sample.label for sample in samples], histograms)


def _mask(sample: Sample, size: Size) -> NDArray[np.bool_] | None:
    if not sample.masks:
        return None
    return binarize_mask(resize_image(read_masks(sample.masks), size, "bilinear"), "half")


def _methods(runs: list[dict[str, Any]]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By method and category, the metrics of each seed."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for run in runs:
        for name in ("nearest neighbour", "nearest neighbour, by place"):
            found.setdefault(name, {}).setdefault(run["category"], []).append(run[name])
    for name, run in _earlier():
        if any(run["category"] in categories for categories in found.values()):
            found.setdefault(name, {}).setdefault(run["category"], []).append(run["half"])
    return found


def _earlier() -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each preset, the runs of its own length."""
    for file in RUNS:
        document = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
        for run in document["runs"]:
            usual = draem.make_recipe(run["preset"]).training
            if run["asked_steps"] == usual.steps and run["init"] == usual.init:
                yield run["preset"], run


def _print(methods: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    for category in next(iter(methods.values())):
        print(f"\n{category}: image AUROC / pixel AUROC / pixel AP, %")
        for name, categories in methods.items():
            if seeds := categories.get(category):
                values = (100 * statistics.mean(one[key] for one in seeds) for key in SHOWN)
                cells = " / ".join(f"{value:.1f}" for value in values)
                print(f"  {name:<30} {cells}  ({len(seeds)} seeds)")


def _draw(methods: dict[str, dict[str, list[dict[str, float]]]]) -> Path:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axes, key, title in zip(
        panels, ("image_auroc", "pixel_ap"), ("image AUROC, %", "pixel AP, %"), strict=True
    ):
        first = next(iter(methods.values()))
        categories = [name for name, seeds in first.items() if np.isfinite(seeds[0][key])]
        for number, (name, found) in enumerate(methods.items()):
            values = [
                100 * statistics.mean(one[key] for one in found.get(category, [{key: np.nan}]))
                for category in categories
            ]
            places = np.arange(len(categories)) + (number - (len(methods) - 1) / 2) * 0.2
            axes.bar(places, values, 0.2, label=name)
        axes.set_xticks(np.arange(len(categories)), categories)
        axes.set_ylabel(title)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylim(50, 100)
    panels[1].legend(fontsize="small")
    path = PLOTS / "nearest-neighbour.png"
    figure.savefig(path, dpi=130)
    return path


if __name__ == "__main__":
    main()
