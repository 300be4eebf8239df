"""The tasks that `faults.py` disturbs: what each runs, and what must hold whatever it leaves."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import draem
from draem.datasets.decoding import decode_to_memory, resized
from draem.datasets.image_cache import Cache, decode_to_files
from draem.embedded import replace_exported
from draem.errors import DraemError
from draem.imaging.decode import decode_image
from draem.model_file import read_verified_card
from draem.training.fit import train
from draem.training.recipe import make_recipe

SIZE = (32, 64)
_RECIPE = {
    "network": {
        "reconstructive_width": 2,
        "discriminative_width": 2,
        "image_size": SIZE,
    },
    "simulation": {"crop": 32},
    "training": {
        "steps": 6,
        "init": "scratch",
        "batch_size": 2,
        "precision": "32",
        "checkpoint_seconds": 0,
        "group_by": "image",
    },
}
_LEFT = re.compile(r"\..*\.(tmp|new|lock)")


@dataclass(frozen=True)
class Inputs:
    """What the tasks work on.

    Attributes:
        good: Image files of good parts, which the models were trained on.
        fresh: Others, which they were not.
        model: A trained model.
        other: Another one.
        exported: Both exported to OpenVINO.
        onnx: The first exported to ONNX.
    """

    good: list[Path]
    fresh: list[Path]
    model: Path
    other: Path
    exported: tuple[Path, Path]
    onnx: Path


def make_inputs(folder: Path) -> Inputs:
    """Write them, in a process of its own: threads that it starts are lost to forks."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_make_inputs, (folder,))


def _make_inputs(folder: Path) -> Inputs:
    rng = np.random.default_rng(0)
    good, fresh = [], []
    for name, paths in (("good", good), ("fresh", fresh)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(30):
            path = folder / name / f"{number:03d}.png"
            Image.fromarray(rng.integers(80, 120, (48, 80, 3), np.uint8)).save(path)
            paths.append(path)
    models = []
    for seed in (0, 1):
        options = {**_RECIPE, "training": {**_RECIPE["training"], "seed": seed}}
        recipe = make_recipe("compact", overrides=options)
        models.append(train(good[0].parent, folder / f"run{seed}", recipe).model)
    exported = tuple(draem.export(model, "openvino").path for model in models)
    return Inputs(good, fresh, *models, exported, draem.export(models[0], "onnx").path)


class Task:
    """Something that writes files.

    Args:
        inputs: What it works on.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.known = ""

    def prepare(self, place: Path) -> None:
        """Put into the place what must be there before."""

    def run(self, place: Path) -> None:
        """Do it; go on with what an earlier run left in the place."""
        raise NotImplementedError

    def check(self, place: Path, *, whole: bool) -> None:
        """Check what is there.

        Args:
            place: Where the task ran.
            whole: Whether it ran to its end.

        Raises:
            AssertionError: Something is wrong.
        """
        if whole:
            left = [path for path in place.rglob("*") if _LEFT.fullmatch(path.name)]
            assert not left, f"left behind: {left}"

    def remember(self, place: Path) -> None:
        """Take what an undisturbed run wrote for what must come out."""


class Train(Task):
    """Train, and go on with an unfinished run."""

    def run(self, place: Path) -> None:
        out = place / "run"
        if (out / "model.safetensors").exists():
            return
        resume = (out / "recipe.toml").exists()
        recipe = None if resume else make_recipe("compact", overrides=_RECIPE)
        train(self.inputs.good[0].parent, out, recipe, resume=resume, cache="never")

    def check(self, place: Path, *, whole: bool) -> None:
        super().check(place, whole=whole)
        model = place / "run" / "model.safetensors"
        if model.exists():
            read_verified_card(model)
        if whole:
            with (place / "run" / "metrics.csv").open(newline="") as file:
                steps = [int(row["step"]) for row in csv.DictReader(file)]
            assert steps == sorted(set(steps)), steps
            assert steps[-1] == 6, steps
            assert not self.known or _weights(model) == self.known, "other weights"

    def remember(self, place: Path) -> None:
        self.known = _weights(place / "run" / "model.safetensors")


class Calibrate(Task):
    """Set a threshold in a model file that has another one."""

    def prepare(self, place: Path) -> None:
        shutil.copy(self.inputs.model, place / "model.safetensors")

    def run(self, place: Path) -> None:
        draem.calibrate_model(
            place / "model.safetensors",
            self.inputs.fresh,
            false_reject_rate=0.1,
            group_by="image",
            threads=1,
        )

    def check(self, place: Path, *, whole: bool) -> None:
        super().check(place, whole=whole)
        held = read_verified_card(place / "model.safetensors").calibration
        assert held is not None
        assert held.false_reject_rate <= 0.1 or not whole, held


class Export(Task):
    """Export to OpenVINO over an earlier export of another model."""

    def prepare(self, place: Path) -> None:
        for suffix in (".xml", ".bin"):
            shutil.copy(self.inputs.exported[1].with_suffix(suffix), place / f"a{suffix}")

    def run(self, place: Path) -> None:
        draem.export(self.inputs.model, "openvino", place / "a.xml")

    def check(self, place: Path, *, whole: bool) -> None:
        super().check(place, whole=whole)
        held, new, old = (
            read_verified_card(each).fingerprint
            for each in (place / "a.xml", self.inputs.model, self.inputs.other)
        )
        assert held == new or (held == old and not whole), held


class Replace(Export):
    """The last part of an export alone, many times over."""

    def run(self, place: Path) -> None:
        for each in (*self.inputs.exported * 4, self.inputs.exported[0]):
            replace_exported(each, place / "a.xml")


class Inspect(Task):
    """Inspect a folder of images, with all that can be written."""

    def run(self, place: Path) -> None:
        inspector = draem.load(self.inputs.onnx, threads=1)
        draem.inspect_files(inspector, self.inputs.good, place / "out", coco=True)

    def check(self, place: Path, *, whole: bool) -> None:
        super().check(place, whole=whole)
        out = place / "out"
        results = out / "results.jsonl"
        marked = (out / "results.jsonl.incomplete").exists()
        if not results.exists():
            assert not whole
            return
        text = results.read_text(encoding="utf-8")
        # A full disk may cut the last line; the marker tells.
        lines = [json.loads(line) for line in text.splitlines() if whole or line.endswith("}")]
        images = [line["image"] for line in lines]
        assert images == [str(path) for path in self.inputs.good][: len(images)], images
        assert marked or len(images) == len(self.inputs.good), "incomplete and not marked"
        assert not (whole and marked), "marked though complete"
        for line in lines:
            for picture in (line["map"], line["overlay"]):
                decode_image(out / picture)
        if (out / "coco.json").exists():
            json.loads((out / "coco.json").read_text(encoding="utf-8"))
        assert not whole or (out / "coco.json").exists()


class CacheWriting(Task):
    """Decode images into the cache."""

    def _source(self, place: Path) -> np.ndarray:
        paths = self.inputs.good
        cache = Cache("always", place / "cache")
        return decode_to_files(
            paths, resized(len(paths), SIZE, "bilinear"), cache, lambda *_: None
        )[:]

    def run(self, place: Path) -> None:
        self._source(place)

    def check(self, place: Path, *, whole: bool) -> None:
        super().check(place, whole=whole)
        paths = self.inputs.good
        expected = decode_to_memory(paths, resized(len(paths), SIZE, "bilinear"))
        known = {image.tobytes() for image in expected.take(range(len(paths)))}
        files = list((place / "cache").rglob("*.npy"))
        for file in files:
            assert np.load(file)[0].tobytes() in known, file
        assert not whole or len(files) == len(paths)


def _weights(model: Path) -> str:
    """A hash of the whole file, but of what the clock decides."""
    try:
        return read_verified_card(model).fingerprint
    except DraemError:
        return hashlib.sha256(model.read_bytes()).hexdigest()


TASKS: dict[str, Callable[[Inputs], Task]] = {
    "train": Train,
    "calibrate": Calibrate,
    "export": Export,
    "replace": Replace,
    "inspect": Inspect,
    "cache": CacheWriting,
}
