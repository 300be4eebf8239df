"""Which side of the score's mean filter suits a trained model? Asked of good images alone.

    python benchmarks/smoothing.py RUN CATEGORY [--rounds 6]

Scores the run's held-out good images, and windows of them with simulated anomalies that it was not
trained on, under filters of several sides. An anomalous image's score is the higher one of its
window's and of the whole good image's. No test image is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draem.evaluation.metrics import image_auroc
from draem.inspection.scoring import anomaly_score, filter_side
from draem.inspection.torch_runtime import read_network
from draem.inspection.torch_scoring import anomaly_maps
from draem.networks.model import Draem
from draem.simulation.factory import make_simulator, without_clean_samples
from draem.simulation.sampling import image_order
from draem.training.images import read_run_images
from draem.training.recipe import make_recipe
from machine import machine, write_result

SIDES = (1, 3, 5, 7, 9, 11, 15, 21)
_SEED = 99
_BATCH = 8
_FEWEST_PIXELS = 10


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    recipe = make_recipe(file=arguments.run / "recipe.toml").resolve()
    images = read_run_images(arguments.category, recipe)
    card, network = read_network(arguments.run / "model.safetensors")
    network.eval()
    held_out = torch.from_numpy(images.held_out.take(range(len(images.held_out))))
    simulator = without_clean_samples(
        make_simulator(images.held_out, images.textures, recipe.simulation, recipe.training.seed),
        _SEED,
    )
    shorter = min(card.network.image_size)
    normal = _scores(network, held_out.float() / 255, shorter)
    anomalous = []
    for step in range(arguments.rounds):
        batch = simulator.batch(step, len(held_out))
        scores = _scores(network, batch.simulated_images, shorter)
        shown = image_order(len(held_out), simulator.seed, step, len(held_out))
        whole = normal[shown.numpy()]
        seen = batch.anomaly_mask.sum((1, 2, 3)).numpy() >= _FEWEST_PIXELS
        anomalous.append(np.maximum(scores, whole)[seen])
    found = np.concatenate(anomalous)
    labels = np.repeat([0, 1], [len(normal), len(found)])
    aurocs = {
        side: image_auroc(np.concatenate((normal[:, place], found[:, place])), labels)
        for place, side in enumerate(SIDES)
    }
    for side, auroc in aurocs.items():
        print(f"{side:>3}  {100 * auroc:.1f}")
    facts = {
        "benchmark": "smoothing",
        "category": arguments.category.name,
        "normal": len(normal),
        "anomalous": len(found),
        "auroc_by_side": aurocs,
        "machine": machine(),
    }
    print(write_result(f"smoothing-{arguments.category.name}", facts))


@torch.inference_mode()
def _scores(network: Draem, pictures: Tensor, shorter: int) -> NDArray[np.float64]:
    """(pictures, sides): scores under filters that cover as many pixels as on whole images."""
    rows = []
    for part in pictures.split(_BATCH):
        for plane in anomaly_maps(network(part).mask_logits)[:, 0].numpy():
            scale = shorter / min(plane.shape)
            sides = [filter_side(*plane.shape, side * scale) for side in SIDES]
            rows.append([anomaly_score(plane, side) for side in sides])
    return np.array(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("category", type=Path, help="what it was trained on")
    parser.add_argument("--rounds", type=int, default=6)
    return parser.parse_args()


if __name__ == "__main__":
    main()
