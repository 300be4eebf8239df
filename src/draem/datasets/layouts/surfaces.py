"""Data sets of surfaces: DAGM 2007, KolektorSDD and its successor, magnetic tiles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from draem.datasets.folders import Search, find_images, subfolders
from draem.datasets.layouts.category import (
    Categories,
    Category,
    Labelled,
    listed_samples,
)
from draem.datasets.samples import Sample, normal_sample
from draem.imaging.decode import is_image_path
from draem.imaging.mask import is_marked, read_mask

_LEARNED = 0.75
_ANOMALOUS = "anomalous"
_KOS = re.compile(r"kos\d+", re.IGNORECASE)
_DAGM = re.compile(r"Class\d+", re.IGNORECASE)
_TILE = re.compile(r"exp\d+_num_(\d+)", re.IGNORECASE)
_ONE_TILE = 10
"""Running numbers of one tile's pictures are nearer than this."""


def find_dagm(root: Path) -> Categories:
    """DAGM 2007: `ClassN/Train` and `Test`, masks `Label/NNNN_label.PNG` of anomalous images alone.

    Learned are the images of `Train` without a mask, as in the paper of DRAEM.

    Source:
        Wieler and Hahn, Weakly Supervised Learning for Industrial Optical Inspection, DAGM 2007.
    """
    folders = [
        f for f in (root, *subfolders(root)) if _DAGM.fullmatch(f.name) and (f / "Train").is_dir()
    ]
    folders.sort(key=lambda folder: int(re.sub(r"\D", "", folder.name)))
    return {folder.name: _dagm(folder) for folder in folders}


def _dagm(folder: Path) -> Category:
    return Category(
        folder.name,
        folder,
        "dagm",
        lambda: _normal_of(_dagm_samples(folder / "Train")),
        lambda: listed_samples(folder, _dagm_samples(folder / "Test")),
    )


def _dagm_samples(folder: Path) -> Iterator[Sample]:
    labels = {path.stem.lower(): path for path in find_images(folder / "Label")}
    for image in find_images(folder):
        if image.parent == folder:
            mask = labels.get(f"{image.stem.lower()}_label")
            yield Sample(image, 1, _ANOMALOUS, (mask,)) if mask else normal_sample(image)


def find_kolektor_sdd(root: Path) -> Categories:
    """KolektorSDD: `kosNN/PartN.jpg` with `PartN_label.bmp`.

    It has no split for learning from normal images alone. Ours: the normal images of the first
    three quarters of the commutators are learned from, all others are tested.

    Source:
        Tabernik et al., Segmentation-based deep-learning approach for surface-defect detection,
        JIM 2019.
    """
    parts = [folder for folder in subfolders(root) if _KOS.fullmatch(folder.name)]
    learned = set(parts[: round(_LEARNED * len(parts))])

    def samples() -> list[Sample]:
        return [sample for folder in parts for sample in _with_masks(folder, "_label")]

    def test() -> Labelled:
        return listed_samples(
            root, [s for s in samples() if s.label or s.image.parent not in learned]
        )

    def normal() -> Search:
        return _normal_of(s for s in samples() if s.image.parent in learned)

    return (
        {"kolektor_sdd": Category("kolektor_sdd", root, "kolektor_sdd", normal, test)}
        if parts
        else {}
    )


def find_kolektor_sdd_2(root: Path) -> Categories:
    """KolektorSDD2: `train` and `test` with `NNNNN.png` and `NNNNN_GT.png`.

    Source:
        Bozic et al., Mixed supervision for surface-defect detection, Computers in Industry 2021.
    """
    folders = [root / "train", root / "test"]
    if not all(folder.is_dir() and any(folder.glob("*_GT.png")) for folder in folders):
        return {}
    name = "kolektor_sdd_2"
    train, test = folders
    category = Category(
        name,
        root,
        name,
        lambda: _normal_of(_with_masks(train, "_GT")),
        lambda: listed_samples(root, _with_masks(test, "_GT")),
    )
    return {name: category}


def find_magnetic_tile(root: Path) -> Categories:
    """Magnetic tiles: `MT_<defect>/Imgs/*.jpg` with masks `*.png` of the same name.

    It has no split. Ours: three quarters of `MT_Free`, by running number, are learned from, all
    others are tested; pictures of one tile, whose numbers are neighbours, are on one side.

    Source:
        Huang et al., Surface defect saliency of magnetic tile, The Visual Computer 2018.
    """
    if not (root / "MT_Free").is_dir():
        return {}

    def photographs(folder: Path) -> list[Path]:
        return [path for path in find_images(folder) if path.suffix.lower() != ".png"]

    def free() -> tuple[list[Path], list[Path]]:
        images = sorted(photographs(root / "MT_Free"), key=lambda path: (_number(path), path.name))
        cut = round(_LEARNED * len(images))
        while 0 < cut < len(images) and _number(images[cut]) - _number(images[cut - 1]) < _ONE_TILE:
            cut += 1
        return images[:cut], images[cut:]

    def test() -> Labelled:
        samples = [normal_sample(image) for image in free()[1]]
        for folder in subfolders(root):
            if folder.name.startswith("MT_") and folder.name != "MT_Free":
                defect = folder.name[3:].lower()
                samples += [
                    Sample(image, 1, defect, (image.with_suffix(".png"),))
                    for image in photographs(folder)
                ]
        return listed_samples(root, samples)

    name = "magnetic_tile"
    return {name: Category(name, root, name, lambda: Search(tuple(free()[0]), Counter()), test)}


def _number(path: Path) -> int:
    match = _TILE.match(path.stem)
    return int(match[1]) if match else 0


def _with_masks(folder: Path, ending: str) -> list[Sample]:
    """Images whose masks are next to them; those whose mask marks nothing are normal."""
    masks = {}
    images = []
    for path in _files(folder):
        if path.stem.lower().endswith(ending.lower()):
            masks[path.stem[: -len(ending)].lower()] = path
        else:
            images.append(path)
    samples = []
    for image in images:
        mask = masks.get(image.stem.lower())
        if mask is not None and is_marked(read_mask(mask)).any():
            samples.append(Sample(image, 1, _ANOMALOUS, (mask,)))
        else:
            samples.append(normal_sample(image))
    return samples


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image_path(path))


def _normal_of(samples: Iterable[Sample]) -> Search:
    images, anomalous = [], 0
    for sample in samples:
        if sample.label:
            anomalous += 1
        else:
            images.append(sample.image)
    return Search(tuple(images), +Counter({"anomalous": anomalous}))
