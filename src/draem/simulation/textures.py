"""Anomaly sources: what simulated defects are filled with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from draem.datasets.decoding import decode_to_memory, resized
from draem.datasets.folders import find_images
from draem.errors import DatasetError, MissingDependencyError, TextureError
from draem.imaging.decode import decode_image
from draem.imaging.resize import resize_image
from draem.simulation.palette import procedural_textures

# File, then (top, left, bottom, right) in shares of the photograph's height and width.
PHOTOGRAPHS: tuple[tuple[str, tuple[float, float, float, float]], ...] = (
    ("astronaut.png", (0.0, 0.0, 1.0, 1.0)),
    ("astronaut.png", (0.55, 0.05, 0.95, 0.45)),
    ("brick.png", (0.0, 0.0, 1.0, 1.0)),
    ("brick.png", (0.6, 0.5, 1.0, 0.9)),
    ("camera.png", (0.0, 0.1, 0.9, 1.0)),
    ("chelsea.png", (0.0, 0.1, 1.0, 0.77)),
    ("chelsea.png", (0.0, 0.1, 0.4, 0.37)),
    ("coffee.png", (0.0, 0.1, 1.0, 0.77)),
    ("coffee.png", (0.55, 0.0, 1.0, 0.3)),
    ("coins.png", (0.0, 0.0, 1.0, 0.8)),
    ("coins.png", (0.05, 0.55, 0.5, 0.9)),
    ("grass.png", (0.0, 0.0, 1.0, 1.0)),
    ("grass.png", (0.1, 0.1, 0.5, 0.5)),
    ("gravel.png", (0.0, 0.0, 1.0, 1.0)),
    ("gravel.png", (0.5, 0.5, 0.85, 0.85)),
    ("hubble_deep_field.jpg", (0.1, 0.1, 0.5, 0.45)),
    ("ihc.png", (0.0, 0.0, 1.0, 1.0)),
    ("ihc.png", (0.0, 0.0, 0.4, 0.4)),
    ("ihc.png", (0.5, 0.4, 0.9, 0.8)),
    ("moon.png", (0.45, 0.35, 1.0, 0.9)),
    ("motorcycle_left.png", (0.0, 0.15, 1.0, 0.82)),
    ("motorcycle_left.png", (0.5, 0.35, 0.95, 0.65)),
    ("page.png", (0.0, 0.0, 1.0, 0.5)),
    ("retina.jpg", (0.2, 0.15, 0.6, 0.55)),
    ("rocket.jpg", (0.4, 0.3, 1.0, 0.7)),
    ("text.png", (0.0, 0.0, 1.0, 0.5)),
)


def builtin_textures(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The textures that draem always has: photographs bundled in scikit-image, and formulas.

    Nothing is downloaded. A photograph that the installed scikit-image lacks is left out; the
    formulas alone are more than 40. The same size gives the same textures every time.

    Args:
        size: Height and width in pixels.

    Returns:
        Textures, (T, H, W, 3) uint8 RGB.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    photographs = _photographs()
    crops = [
        resize_image(_crop(photographs[name], box), size, "area")
        for name, box in PHOTOGRAPHS
        if name in photographs
    ]
    return np.concatenate(
        [np.asarray(crops, np.uint8).reshape(-1, *size, 3), procedural_textures(size)]
    )


def builtin_photographs() -> list[npt.NDArray[np.uint8]]:
    """The photographs that the built-in textures are cut from, whole.

    Returns:
        (H, W, 3) uint8 RGB each, in the order of `PHOTOGRAPHS`.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    return list(_photographs().values())


def load_textures(
    folder: Path,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.uint8]:
    """Textures from every image in a folder and the folders below it, such as DTD's.

    Args:
        folder: Where to look.
        size: Height and width in pixels; images of another shape are stretched.
        progress: Called with the images done and the images in all.

    Returns:
        Textures in the order of their paths, (T, H, W, 3) uint8 RGB.

    Raises:
        TextureError: The folder is missing, holds no image, or some of its images cannot be read;
            the message lists them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TextureError(
            "is not a folder",
            path=folder,
            expected="a folder with texture images",
            hint="Check its name, or leave it out to use the built-in textures",
        )
    paths = find_images(folder, recursive=True)
    if not paths:
        raise TextureError(
            "holds no images",
            path=folder,
            expected="at least one PNG, JPEG, BMP, TIFF or WebP file, here or in a folder below",
            hint="Add some, or leave it out to use the built-in textures",
        )
    try:
        return decode_to_memory(paths, resized(len(paths), size, "area"), progress)[:]
    except DatasetError as error:
        raise TextureError(
            error.problem, path=folder, expected=error.expected, hint=error.hint
        ) from error


def _photographs() -> dict[str, npt.NDArray[np.uint8]]:
    folder = _photograph_folder()
    names = dict.fromkeys(name for name, _ in PHOTOGRAPHS if (folder / name).is_file())
    return {name: decode_image(folder / name) for name in names}


def _photograph_folder() -> Path:
    """Where scikit-image keeps its photographs, found without importing it."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise MissingDependencyError(
            "the built-in textures need scikit-image, which is not installed",
            hint="Run `pip install 'draem[train]'`, or give a folder of textures",
        )
    return Path(found.origin).parent / "data"


def _crop(
    photograph: npt.NDArray[np.uint8], box: tuple[float, float, float, float]
) -> npt.NDArray[np.uint8]:
    height, width = photograph.shape[:2]
    top, left, bottom, right = box
    return photograph[
        round(top * height) : round(bottom * height), round(left * width) : round(right * width)
    ]
