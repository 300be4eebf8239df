"""What does Ray cost beside the plain folder run, and does its memory grow with the images?

    python benchmarks/cluster.py [--images 3000] [--rounds 3] [--counts 1000 10000 100000]

First, photographs of 256x256 and `compact` in ONNX Runtime: `draem.inspect_files` with a thread for
each core, and Ray with a worker of one thread for each core, in turns, on a cluster that has been
started; the workers start anew in every turn. Then a tiny network, which costs next to nothing, and
growing numbers of small images: the time of an image, and the most memory that all processes of the
cluster took together. Prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import ray
import ray.data
from PIL import Image

import draem
from draem.config import ResolvedNetworkConfig
from draem.distributed import inspect_to_parquet
from draem.model_card import Calibration, ModelCard
from draem.model_file import write_model
from draem.networks.model import build_draem
from folder import write_photographs
from inference import write_network
from machine import machine, write_result
from turns import in_turn, timed

_SMALL = 32
_FILES = 1000


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    arguments = parser.parse_args()
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.init(include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as scratch:
        throughput = _throughput(Path(scratch), arguments.images, arguments.rounds)
        growth = [_growth(Path(scratch), count) for count in arguments.counts]
    document = {
        "benchmark": "cluster",
        "machine": machine() | {"ray": ray.__version__},
        "images": arguments.images,
        "throughput": throughput,
        "growth": growth,
    }
    write_result("cluster", document)


def _throughput(folder: Path, count: int, rounds: int) -> list[dict[str, object]]:
    model = draem.export(write_network("compact", folder), "onnx").path
    paths = write_photographs(folder / "photographs", 256, count)
    cores = os.cpu_count() or 1
    inspector = draem.load(model, threads=cores)

    def alone() -> None:
        draem.inspect_files(inspector, paths, folder / "out", maps=False, overlays=False)

    def cluster() -> None:
        shutil.rmtree(folder / "found", ignore_errors=True)
        counts = inspect_to_parquet(paths, model, folder / "found")
        assert (counts.images, counts.failures) == (count, 0)

    ways = {f"folder, {cores} threads": timed(alone), f"Ray, {cores} workers": timed(cluster)}
    taken = in_turn(ways, rounds)
    rates = {name: count / statistics.median(seconds) for name, seconds in taken.items()}
    best = next(iter(rates.values()))
    rows = [
        {"way": name, "images_per_s": rate, "of_the_folder": rate / best, "seconds": taken[name]}
        for name, rate in rates.items()
    ]
    for name, rate in rates.items():
        print(f"{name:<20} {rate:>7.1f} images/s  {100 * rate / best:>4.0f} %")
    return rows


def _growth(folder: Path, count: int) -> dict[str, object]:
    model = folder / "tiny.onnx"
    if not model.is_file():
        model = _tiny_model(folder)
    paths = _small_images(folder)
    images = [paths[number % len(paths)] for number in range(count)]
    shutil.rmtree(folder / "found", ignore_errors=True)
    with _most_memory() as memory:
        started = time.perf_counter()
        counts = inspect_to_parquet(images, model, folder / "found")
        seconds = time.perf_counter() - started
    assert (counts.images, counts.failures) == (count, 0)
    row = {
        "images": count,
        "seconds": seconds,
        "ms_an_image": 1000 * seconds / count,
        "peak_memory_mib": max(memory),
    }
    print(f"{count:>7} images  {row['ms_an_image']:>6.2f} ms each  {max(memory):>6.0f} MiB at most")
    return row


def _tiny_model(folder: Path) -> Path:
    network = ResolvedNetworkConfig(
        reconstructive_width=4,
        discriminative_width=4,
        architecture="compact",
        scales=1,
        image_size=(_SMALL, _SMALL),
        smoothing=5,
    )
    calibration = Calibration(threshold=0.99, false_reject_rate=0.01, images=99)
    path = folder / "tiny.safetensors"
    card = ModelCard(preset="compact", network=network, calibration=calibration)
    write_model(path, build_draem(network).state_dict(), card)
    return draem.export(path, "onnx").path


def _small_images(folder: Path) -> list[Path]:
    """PNG files of noise, which further images repeat: only the count matters here."""
    small = folder / "small"
    if not small.is_dir():
        small.mkdir()
        rng = np.random.default_rng(0)
        for number in range(_FILES):
            pixels = rng.integers(0, 256, (_SMALL, _SMALL, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(small / f"{number:04d}.png")
    return sorted(small.iterdir())


@contextmanager
def _most_memory() -> Iterator[list[float]]:
    """The memory of this process and all of Ray's, in MiB, twice a second.

    Shared pages are divided among those that share them, so that they count once.
    """
    found, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            found.append(sum(map(_proportional, _processes())) / 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _processes() -> list[Path]:
    own = Path(f"/proc/{os.getpid()}")
    return [own, *(path for path in Path("/proc").glob("[0-9]*") if _is_rays(path))]


def _is_rays(path: Path) -> bool:
    try:
        return b"ray" in path.joinpath("cmdline").read_bytes().split(b"\0")[0].lower()
    except OSError:
        return False


def _proportional(path: Path) -> int:
    """Kilobytes; 0 of a process that has ended."""
    try:
        lines = path.joinpath("smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
