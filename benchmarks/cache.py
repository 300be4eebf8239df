"""What does training on more images than fit in memory cost, in time, disk and memory?

    python benchmarks/cache.py [--images 200 400] [--side 1024] [--folder DIR]

Writes JPEG files of parts before a plain background, all different, and reads them as `draem train
--cache always` does with the preset `compact`: once into an empty cache, then again in another
process, which ends with some training steps. The second start finds files in the system's cache of
the disk as far as they fit there. Memory is the peak of what Linux calls anonymous: pages of mapped
files, which it drops as soon as they are needed elsewhere, are not counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from draem.config import ResolvedRecipe
from draem.datasets.image_cache import Cache
from draem.networks.model import build_draem
from draem.simulation.factory import make_simulator
from draem.training.images import RunImages, read_run_images
from draem.training.losses import LossWeights, draem_losses
from draem.training.recipe import make_recipe
from machine import machine, write_result

_STEPS = 20
_TEXTURES = 16
_STATUS = Path("/proc/self/status")


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(_start(arguments.folder, arguments.side, arguments.steps)))
        return
    print(
        f"{'images':>7}{'GB':>7}{'first start':>13}{'images/s':>10}{'second start':>14}"
        f"{'preparing':>11}{'ms a step':>11}{'MB decoding':>13}{'starting':>10}{'training':>10}"
    )
    rows = [_measured(count, arguments) for count in arguments.images]
    document = {
        "benchmark": "cache",
        "side": arguments.side,
        "steps": _STEPS,
        "rows": rows,
        "machine": machine(),
    }
    print(write_result("cache", document))


def _measured(count: int, arguments: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch)
        _check_room(folder, count, arguments.side)
        _write_images(folder / "images", count, arguments.side)
        _write_images(folder / "textures", _TEXTURES, arguments.side)
        first, second = (_in_a_process(folder, arguments.side, steps) for steps in (0, _STEPS))
        size = sum(file.stat().st_size for file in folder.glob("cache/*/*/*.npy"))
        sources = sum(file.stat().st_size for file in folder.glob("images/*"))
    row: dict[str, object] = {
        "images": count,
        "source_gb": sources / 1e9,
        "cache_gb": size / 1e9,
        "first_start_s": first["read_s"],
        "images_per_s": count / first["read_s"],
        "second_start_s": second["read_s"],
        "preparing_s": second["prepare_s"],
        "step_ms": second["step_ms"],
        "mb_before": first["mb_before"],
        "mb_first_start": first["mb_reading"],
        "mb_second_start": second["mb_reading"],
        "mb_preparing": second["mb_preparing"],
        "mb_training": second["mb_training"],
    }
    print(
        f"{count:>7}{row['cache_gb']:>7.2f}{row['first_start_s']:>11.1f} s"
        f"{row['images_per_s']:>10.1f}{row['second_start_s']:>12.1f} s"
        f"{row['preparing_s']:>9.1f} s{row['step_ms']:>11.0f}{row['mb_first_start']:>13.0f}"
        f"{max(second['mb_reading'], second['mb_preparing']):>10.0f}{row['mb_training']:>10.0f}",
        flush=True,
    )
    return row


def _check_room(folder: Path, count: int, side: int) -> None:
    pixels = count * side * side
    # Pixels, a third of them for where the parts lie, and the JPEG files.
    wanted, free = 4 * pixels + pixels, shutil.disk_usage(folder).free
    if wanted > free:
        sys.exit(
            f"{count} images need {wanted / 1e9:.0f} GB; {folder} has {free / 1e9:.0f} GB free. "
            "Give fewer --images or another --folder."
        )


def _write_images(folder: Path, count: int, side: int) -> None:
    """JPEG files of parts, each with a piece of one large noise of its own."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2 * side, 2 * side, 3), np.uint8)
    noise = 100 + cv2.GaussianBlur(noise, (0, 0), 2) // 2
    places = rng.choice(side * side, count, replace=False)
    edge = side // 4

    def write(number: int) -> None:
        top, left = divmod(int(places[number]), side)
        image: NDArray[np.uint8] = np.full((side, side, 3), 20, np.uint8)
        inner = slice(edge, side - edge)
        image[inner, inner] = noise[top : top + side, left : left + side][inner, inner]
        Image.fromarray(image).save(folder / f"{number:06d}.jpg", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))


def _in_a_process(folder: Path, side: int, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", "--folder", str(folder)]
    command += ["--side", str(side), "--steps", str(steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _start(folder: Path, side: int, steps: int) -> dict[str, float]:
    """Time and memory of a start and, where steps are asked for, of what follows it."""
    overrides = {
        "network": {"image_size": (side, side)},
        # The built-in ones take longer to make than some hundred images to decode.
        "simulation": {"textures": str(folder / "textures")},
    }
    recipe = make_recipe("compact", overrides=overrides).resolve()
    facts = {"mb_before": _anonymous()}
    started = time.perf_counter()
    with _peak() as peak:
        images = read_run_images(folder / "images", recipe, None, _cache(folder))
    facts |= {"read_s": time.perf_counter() - started, "mb_reading": peak[0]}
    return facts | _trained(images, recipe, steps) if steps else facts


def _cache(folder: Path) -> Cache:
    return Cache("always", folder / "cache")


def _trained(images: RunImages, recipe: ResolvedRecipe, steps: int) -> dict[str, float]:
    started = time.perf_counter()
    with _peak() as preparing:
        simulator = make_simulator(images.training, images.textures, recipe.simulation)
    prepared = time.perf_counter() - started
    network = build_draem(recipe.network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    seconds = []
    with _peak() as training:
        for step in range(steps):
            started = time.perf_counter()
            batch = simulator.batch(step, recipe.training.batch_size)
            inputs = batch.simulated_images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            draem_losses(network(inputs), batch, LossWeights()).total.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - started)
    return {
        "prepare_s": prepared,
        "step_ms": 1000 * float(np.median(seconds)),
        "mb_preparing": preparing[0],
        "mb_training": training[0],
    }


@contextmanager
def _peak() -> Iterator[list[float]]:
    """The most anonymous memory meanwhile, in MB, as the list's only item."""
    peak, ended = [_anonymous()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _anonymous() -> float:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--folder", type=Path, help="where images and cache lie for the time being")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
