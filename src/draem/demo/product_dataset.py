"""A small data set of a made-up product, so that draem can be tried without any images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from draem.demo.camera import photograph
from draem.demo.defects import DEFECTS, add_defect
from draem.demo.flange import render_part
from draem.errors import InputError, OutputError
from draem.files import make_folder
from draem.imaging.encode import write_png

SMALLEST_SIZE = 64
SPLITS = ("train/good", "test/good", *(f"test/{kind}" for kind in DEFECTS))


def render_product(
    root: Path,
    *,
    seed: int = 0,
    size: int = 256,
    normal_train: int = 160,
    normal_test: int = 40,
    per_defect: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render turned steel flanges, good and defective, as a folder in the layout of MVTec AD.

    An image depends on `seed`, `size`, its folder and its number alone, not on how many there are.

    Args:
        root: The folder to fill; it is made if it is missing.
        seed: Another seed gives other parts and other defects.
        size: Width and height of the images in pixels, at least 64.
        normal_train: How many good parts to train on.
        normal_test: How many good parts to test on.
        per_defect: How many parts with each kind of defect in `DEFECTS`.
        progress: Called with the images done and the images in all after each image.

    Returns:
        `root`.

    Raises:
        InputError: A count or the seed is negative, or the size is too small.
        OutputError: The folder already holds something, or cannot be written.
    """
    root = Path(root)
    _check(
        size=(size, SMALLEST_SIZE),
        seed=(seed, 0),
        normal_train=(normal_train, 0),
        normal_test=(normal_test, 0),
        per_defect=(per_defect, 0),
    )
    _check_empty(root)
    counts = (normal_train, normal_test, *(per_defect for _ in DEFECTS))
    total = sum(counts)
    done = 0
    for split, count in zip(SPLITS, counts, strict=True):
        for view in render_split(split, count, seed=seed, size=size):
            _write(root, split, view)
            done += 1
            if progress is not None:
                progress(done, total)
    return root


@dataclass(frozen=True)
class View:
    """One rendered image.

    Attributes:
        name: Its number within its folder, three digits or more.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where a defect shows; None for a good part.
    """

    name: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8] | None


def render_split(split: str, count: int, *, seed: int = 0, size: int = 256) -> Iterator[View]:
    """Render the images of one folder, one at a time.

    Args:
        split: One of `SPLITS`.
        count: How many images.
        seed: As in `render_product`.
        size: As in `render_product`.
    """
    for index in range(count):
        rng = np.random.default_rng([seed, SPLITS.index(split), index])
        part = render_part(rng, size)
        kind = Path(split).name
        if kind in DEFECTS:
            image, mask = add_defect(part, kind, rng)
            yield View(f"{index:03d}", image, mask)
        else:
            yield View(f"{index:03d}", photograph(part), None)


def _write(root: Path, split: str, view: View) -> None:
    write_png(make_folder(root / split) / f"{view.name}.png", view.image)
    if view.mask is not None:
        truth = make_folder(root / "ground_truth" / Path(split).name)
        write_png(truth / f"{view.name}_mask.png", view.mask)


def _check(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise InputError(
                f"{name} is too small to render the product",
                expected=f"{least} or more",
                found=str(value),
            )


def _check_empty(root: Path) -> None:
    if root.is_file() or (root.is_dir() and any(root.iterdir())):
        raise OutputError(
            "already holds something",
            path=root,
            expected="a new or an empty folder",
            hint="Choose another folder, or remove this one first",
        )
