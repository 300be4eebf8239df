"""What do tiles cost on large images, and can their seams be seen?

    python benchmarks/tiling.py [--sides 2000 4000 8000]

Inspects square images by tiles of 256 pixels that overlap by 32, each in a process of its own, with
the network of `compact` and the weights that it starts from. Memory is the peak beyond what the
process held before, the image included, and beyond map and reconstruction, which are returned.
Seams are told by the mean step of the map from one pixel to the next where tiles begin and end,
against that of the map that the network makes of the whole image at once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

from draem.imaging.tiles import plan_tiles
from draem.inspection.inspector import Inspector
from draem.inspection.scoring import network_filter_side
from draem.inspection.torch_runtime import TorchRuntime
from draem.model_card import Calibration, ModelCard
from draem.networks.devices import resolve_device
from draem.networks.model import build_draem
from draem.simulation.textures import builtin_photographs
from draem.training.recipe import make_recipe
from draem.training.warm_start import load_warm_start
from machine import machine, write_result

TILE = 256
OVERLAPS = (0, 8, 16, 32, 64)
_SEAM_SIDE = 1024
_THRESHOLD = 0.25
"""Spots and scratch reach it with these weights, the noise around them does not."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_inspected(arguments.one)))
        return
    print(f"{'image':<12}{'tiles':>7}{'s':>8}{'s/MP':>8}{'MB beyond':>11}{'regions':>9}")
    costs = []
    for side in arguments.sides:
        command = [sys.executable, __file__, "--one", str(side)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        cost = json.loads(done.stdout)
        costs.append(cost)
        print(
            f"{f'{side}x{side}':<12}{cost['tiles']:>7}{cost['seconds']:>8.1f}"
            f"{cost['seconds_per_megapixel']:>8.3f}{cost['megabytes_beyond']:>11.0f}"
            f"{cost['regions']:>9}"
        )
    seams = _seams()
    print(f"\n{'steps at borders':<18}{'tiles':>10}{'at once':>10}{'difference of maps':>20}")
    for seam in seams:
        print(
            f"{seam['image']:<10} by {seam['overlap']:<4}{seam['step']:>10.5f}"
            f"{seam['step_at_once']:>10.5f}{seam['map_difference']:>20.5f}"
        )
    document = {
        "benchmark": "tiling",
        "tile": TILE,
        "overlap": 32,
        "images": costs,
        "seams": seams,
        "machine": machine(),
    }
    print(write_result("tiling", document))


def _inspected(side: int) -> dict[str, object]:
    """Time and memory of one image, which is noise but for many spots and a long scratch."""
    inspector = _inspector(32)
    image = np.empty((side, side, 3), np.uint8)
    rng = np.random.default_rng(0)
    for row in image:
        row[...] = rng.integers(110, 140, (side, 1), np.uint8)
    spots = side**2 // 64_000  # a thousand at 8000x8000
    for top, left in rng.integers(0, side - 20, (spots, 2)):
        image[top : top + 10, left : left + 10] = 250
    image[side // 2 : side // 2 + 4, side // 4 : side // 2] = 20
    inspector.inspect(image[: 2 * TILE, : 2 * TILE])  # torch takes memory of its own once
    before = _peak()
    started = time.perf_counter()
    found = inspector.inspect(image)
    seconds = time.perf_counter() - started
    assert found.reconstruction is not None
    returned = found.anomaly_map.nbytes + found.reconstruction.nbytes
    return {
        "side": side,
        "tiles": plan_tiles((side, side), (TILE, TILE), 32).count,
        "seconds": seconds,
        "seconds_per_megapixel": seconds / side**2 * 1e6,
        "megabytes_before": before / 1e6,
        "megabytes_returned": returned / 1e6,
        "megabytes_beyond": (_peak() - before - returned) / 1e6,
        "regions": len(found.regions),
    }


def _peak() -> int:
    """The most memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _inspector(overlap: int | None, side: int = TILE) -> Inspector:
    size = {"image_size": (side, side)} if overlap is None else {"tile": side, "overlap": overlap}
    recipe = make_recipe("compact", overrides={"network": size | {"scales": 1}}).resolve()
    network = recipe.network
    model = build_draem(network)
    load_warm_start(model)
    card = ModelCard(
        preset="compact",
        network=network,
        calibration=Calibration(threshold=_THRESHOLD, false_reject_rate=0.05, images=19),
    )
    runtime = TorchRuntime(model, resolve_device("cpu"), network_filter_side(network))
    return Inspector(card, runtime)


def _seams() -> list[dict[str, object]]:
    """Mean steps at the borders of tiles, with tiles and without, by image and overlap."""
    photograph = builtin_photographs()[1]  # bricks
    repeats = -(-_SEAM_SIDE // min(photograph.shape[:2]))
    bricks = np.tile(photograph, (repeats, repeats, 1))[:_SEAM_SIDE, :_SEAM_SIDE]
    even = np.full((_SEAM_SIDE, _SEAM_SIDE, 3), 128, np.uint8)
    seams: list[dict[str, object]] = []
    for name, image in (("even grey", even), ("bricks", bricks)):
        at_once = _inspector(None, _SEAM_SIDE).inspect(image).anomaly_map
        for overlap in OVERLAPS:
            tiled = _inspector(overlap).inspect(image).anomaly_map
            seams.append(
                {
                    "image": name,
                    "overlap": overlap,
                    "step": _step(tiled, overlap),
                    "step_at_once": _step(at_once, overlap),
                    "map_difference": float(np.abs(tiled - at_once).mean()),
                }
            )
    return seams


def _step(plane: NDArray[np.float32], overlap: int) -> float:
    """Mean step of a map across the columns where tiles begin and end."""
    lefts = plan_tiles((TILE, plane.shape[1]), (TILE, TILE), overlap).lefts
    borders = np.unique([left - 1 for left in lefts[1:]] + [left + TILE - 1 for left in lefts[:-1]])
    return float(np.abs(np.diff(plane, axis=1))[:, borders].mean())


if __name__ == "__main__":
    main()
