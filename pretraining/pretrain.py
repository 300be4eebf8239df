"""Make the warm start that comes with draem: train `compact` on made-up products.

    python pretraining/pretrain.py [--steps 4663] [--pictures 4000] [--seed 0] [--out FILE]

Renders the pictures into a folder, trains on them from scratch with the profile `varied`, and
writes the weights in float16. The same seed and number of steps give the same weights on the same
machine; `docs/warm-start.md` says what the shipped file was made with.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from functools import cache
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import track

import draem
from draem.imaging.encode import write_png
from draem.model_file import read_model, write_model
from draem.training.warm_start import WARM_START
from parts import render
from surfaces import Studio

SIDE = 256


def main() -> None:
    """Render, train and write."""
    arguments = _arguments()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        pictures = arguments.data or Path(scratch) / "pictures"
        if not pictures.exists():
            pictures.mkdir(parents=True)
            _render_all(pictures, arguments.pictures, console)
        length = {
            "steps": None if arguments.minutes else arguments.steps,
            "minutes": arguments.minutes,
        }
        recipe = draem.make_recipe(
            "compact",
            overrides={
                "network": {"image_size": (SIDE, SIDE)},
                # Made-up products may have any pose, and no background is to be trusted.
                "simulation": {
                    "rotation_share": 0.3,
                    "flips": True,
                    "zoom": 1.3,
                    "on_part": False,
                },
                "training": {
                    **length,
                    "init": "scratch",
                    "learning_rate": 4e-3,
                    "held_out_share": 0.02,
                    "seed": arguments.seed,
                },
            },
        )
        run = arguments.run or Path(scratch) / "run"
        resume = (run / "recipe.toml").exists()
        result = draem.train(pictures, run, recipe, resume=resume, console=console)
    card, state = read_model(result.model)
    halves = {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }
    card = card.replace(calibration=None)
    write_model(arguments.out, halves, card)
    size = arguments.out.stat().st_size / 2**20
    console.print(f"{result.steps} steps in {result.seconds / 60:.1f} min; {size:.2f} MiB")
    console.print(arguments.out)


def _render_all(folder: Path, count: int, console: Console) -> None:
    jobs = [(folder / f"{number:05d}.png", number) for number in range(count)]
    with multiprocessing.Pool() as pool:
        done = pool.imap_unordered(_render_one, jobs, chunksize=16)
        for _ in track(done, "Rendering pictures", total=count, console=console):
            pass


def _render_one(job: tuple[Path, int]) -> None:
    cv2.setNumThreads(1)
    path, number = job
    write_png(path, render(_studio(), number))


@cache
def _studio() -> Studio:
    return Studio(SIDE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4663)
    parser.add_argument("--minutes", type=float, help="length in minutes instead of steps")
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="keep the pictures here, or take these")
    parser.add_argument("--run", type=Path, help="keep the run here, and go on with it")
    parser.add_argument("--out", type=Path, default=WARM_START)
    return parser.parse_args()


if __name__ == "__main__":
    main()
