"""Anomaly sources: what simulated defects are filled with."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from draem.datasets.decoding import decode_to_memory, resized
from draem.datasets.folders import find_images
from draem.datasets.image_source import ImageSource, from_rgb
from draem.errors import DatasetError, MissingDependencyError, TextureError
from draem.imaging.decode import decode_image
from draem.imaging.opening import TOLD_FORMATS
from draem.imaging.resize import Interpolation, resize_image
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

_SHA256 = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "moon.png": "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "page.png": "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "text.png": "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
}
"""The files of scikit-image 0.26; other ones would give other weights for a seed."""


def read_textures(
    folder: str | Path | None,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
    interpolation: Interpolation = "area",
) -> ImageSource:
    """The textures of a folder, or the built-in ones if none is given.

    Args:
        folder: See `load_textures`.
        size: Height and width in pixels.
        progress: Called with the images done and the images in all.
        interpolation: How they are resized.

    Raises:
        MissingDependencyError: The built-in ones need scikit-image, which is not installed.
        TextureError: The folder or the built-in photographs cannot be used.
    """
    if folder:
        return from_rgb(load_textures(Path(folder), size, progress, interpolation))
    return from_rgb(builtin_textures(size, interpolation))


def builtin_textures(
    size: tuple[int, int], interpolation: Interpolation = "area"
) -> npt.NDArray[np.uint8]:
    """The textures that draem always has: photographs bundled in scikit-image, and formulas.

    Nothing is downloaded. The same size gives the same textures every time.

    Args:
        size: Height and width in pixels.
        interpolation: How the photographs are resized; formulas are drawn at the size.

    Returns:
        Textures, (T, H, W, 3) uint8 RGB.

    Raises:
        MissingDependencyError: scikit-image is not installed.
        TextureError: Its photographs are missing or other ones.
    """
    photographs = _photographs()
    crops = [
        resize_image(_crop(photographs[name], box), size, interpolation)
        for name, box in PHOTOGRAPHS
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
        TextureError: Its photographs are missing or other ones.
    """
    return list(_photographs().values())


def load_textures(
    folder: Path,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
    interpolation: Interpolation = "area",
) -> npt.NDArray[np.uint8]:
    """Textures from every image in a folder and the folders below it, such as DTD's.

    Args:
        folder: Where to look.
        size: Height and width in pixels; images of another shape are stretched.
        progress: Called with the images done and the images in all.
        interpolation: How they are resized.

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
    paths = find_images(folder)
    if not paths:
        raise TextureError(
            "holds no images",
            path=folder,
            expected=f"at least one {TOLD_FORMATS} file, here or in a folder below",
            hint="Add some, or leave it out to use the built-in textures",
        )
    try:
        return decode_to_memory(paths, resized(len(paths), size, interpolation), progress)[:]
    except DatasetError as error:
        raise TextureError(
            error.problem, path=folder, expected=error.expected, hint=error.hint
        ) from error


def _photographs() -> dict[str, npt.NDArray[np.uint8]]:
    folder = _photograph_folder()
    for name, expected in _SHA256.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
        if found != expected:
            raise TextureError(
                "this photograph, which built-in textures are cut from, is missing or another one",
                path=path,
                expected=f"SHA-256 {expected}",
                found=found,
                hint="Install scikit-image again with: pip install --force-reinstall --no-deps "
                "scikit-image; or give a folder of textures with --textures",
            )
    return {name: decode_image(folder / name) for name in _SHA256}


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
