"""Recipes, and what draem reads of its own files."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import tomlkit
import torch

from draem.config import ResolvedRecipe
from draem.datasets.image_source import ImageSource
from draem.imaging.roi import draw_polygons, fit_roi
from draem.training.checkpoint import FORMAT, read_checkpoint
from draem.training.metrics_log import COLUMNS, keep_rows
from draem.training.recipe import make_recipe, write_recipe
from fuzz.changes import changed
from fuzz.harness import as_file, target

SIZES = ((480, 640), (64, 64))
SHAPE = (2, 3, 8, 8)
SIDES = (32, 48)


def _resolved(preset: str) -> ResolvedRecipe:
    return make_recipe(preset).resolve(SIZES)


def recipe_seeds() -> Iterator[bytes]:
    """Every preset's recipe, and a short one."""
    for preset in ("pretrained", "compact", "full", "published"):
        with as_file(b"", "recipe.toml") as path:
            write_recipe(_resolved(preset), path)
            yield path.read_bytes()
    yield b'preset = "full"\n[training]\nsteps = 10\nepochs = "auto"\n'


@target("recipe", seeds=recipe_seeds)
def read_recipe(data: bytes) -> None:
    """A TOML file."""
    with as_file(data, "recipe.toml") as path:
        make_recipe(file=path).resolve(SIZES)


@target("recipe-values", seeds=lambda: [b"", bytes(range(40)), bytes(range(255, 200, -1))])
def read_recipe_values(data: bytes) -> None:
    """A recipe with strange values; what is accepted must be stored and read again."""
    presets = ("pretrained", "compact", "full", "published")
    preset = presets[data[0] % len(presets)] if data else presets[0]
    document = changed(_resolved(preset).model_dump(mode="json", exclude_none=True), data[1:])
    try:
        text = tomlkit.dumps(document)
    except Exception:  # TOML has no way to write it
        return
    with as_file(text.encode("utf-8", errors="surrogatepass"), "recipe.toml") as path:
        read = make_recipe(file=path).resolve(SIZES)
        write_recipe(read, path)
        if make_recipe(file=path).resolve(SIZES) != read:
            raise AssertionError("a recipe that was read is another one when stored and read again")


def _log() -> bytes:
    rows = [",".join(COLUMNS), *(f"{step},0.5,1e-4" + ",0.25" * 11 for step in (10, 20, 30))]
    return "\n".join(rows).encode()


@target("training-log", seeds=lambda: [_log()], max_bytes=2**18)
def read_log(data: bytes) -> None:
    """`metrics.csv` of a run that goes on."""
    with as_file(data, "metrics.csv") as path:
        keep_rows(path, 20)


def state_seeds() -> Iterator[bytes]:
    """The state of a training."""
    written = io.BytesIO()
    torch.save({"format": FORMAT, "step": 3, "model": {"a": torch.zeros(4)}}, written)
    yield written.getvalue()


@target("training-state", seeds=state_seeds, memory_mb=2048)
def read_state(data: bytes) -> None:
    """The checkpoint of a run that goes on."""
    with as_file(data, "checkpoint.pt") as path:
        read_checkpoint(path)


def cache_seeds() -> Iterator[bytes]:
    """A decoded image in two views."""
    written = io.BytesIO()
    np.save(written, np.zeros(SHAPE, np.uint8))
    yield written.getvalue()


@target("cache", seeds=cache_seeds)
def read_cached(data: bytes) -> None:
    """A decoded image, and the fingerprint that is kept for a set of them."""
    with as_file(data, "a.npy") as path:
        source = ImageSource((1, *SHAPE[1:]), None, ((path, 1),), path.parent)
        source[0:1]
        known = path.parent / "fingerprints"
        source.fingerprint()
        for file in known.iterdir():
            file.write_bytes(data)
        source.fingerprint()


def polygon_seeds() -> Iterator[bytes]:
    """Corners as bytes, a pair each."""
    yield bytes([30, 30, 200, 30, 200, 200])
    yield bytes([40, 40, 190, 190, 40, 190, 190, 60])


# atheris leaks what NumPy compares, about 10 kB per input; without it nothing grows.
@target("polygons", seeds=polygon_seeds, memory_mb=4096, max_bytes=64)
def fit_polygons(data: bytes) -> None:
    """A region of interest of corners in and around the image."""
    corners = [(x / 200 - 0.1, y / 200 - 0.1) for x, y in zip(data[::2], data[1::2], strict=False)]
    recipe = make_recipe("compact", overrides={"region_of_interest": {"polygons": [corners]}})
    inside = fit_roi(draw_polygons(recipe.region_of_interest.polygons, SIDES), SIDES)
    if not inside.any():
        raise AssertionError("a region of interest without a pixel was accepted")
