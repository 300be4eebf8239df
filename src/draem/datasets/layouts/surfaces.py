"""Data sets of surfaces: DAGM 2007, KolektorSDD and its successor, magnetic tiles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from draem.datasets.folders import Search, files_if_any, search_images, subfolders
from draem.datasets.layouts.category import (
    Categories,
    Category,
    Labelled,
    listed_samples,
)
from draem.datasets.mask_names import Masks
from draem.datasets.samples import Sample, normal_sample
from draem.imaging.mask import is_marked, read_masks

Found = tuple[list[Sample], Counter[str]]
"""Images with their labels and masks, and what was left out of them, by reason."""

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
        lambda: _normal_of(*_dagm_samples(folder / "Train")),
        lambda: listed_samples(folder, _dagm_samples(folder / "Test")[0]),
    )


def _dagm_samples(folder: Path) -> Found:
    searched = search_images(folder)
    in_labels = [image for image in searched.images if image.parent != folder]
    found = searched.without(in_labels, "in `Label`")
    labels = {path.stem.lower(): path for path in in_labels}
    masks = [labels.get(f"{image.stem.lower()}_label") for image in found.images]
    return [
        Sample(image, 1, _ANOMALOUS, (mask,)) if mask else normal_sample(image)
        for image, mask in zip(found.images, masks, strict=True)
    ], found.left_out


def find_kolektor_sdd(root: Path) -> Categories:
    """KolektorSDD: `kosNN/PartN.jpg` with `PartN_label.bmp`.

    It has no split for learning from normal images alone. Ours: the normal images of the first
    three quarters of the commutators are learned from, all others are tested.

    Source:
        Tabernik et al., Segmentation-based deep-learning approach for surface-defect detection,
        JIM 2019.
    """
    parts = [folder for folder in subfolders(root) if _KOS.fullmatch(folder.name)]
    learned = parts[: round(_LEARNED * len(parts))]

    def samples(folders: list[Path]) -> Found:
        each = [_with_masks(folder) for folder in folders]
        left_out = sum((left for _, left in each), Counter[str]())
        return [sample for found, _ in each for sample in found], left_out

    def test() -> Labelled:
        return listed_samples(
            root, [s for s in samples(parts)[0] if s.label or s.image.parent not in learned]
        )

    def normal() -> Search:
        return _normal_of(*samples(learned))

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
        lambda: _normal_of(*_with_masks(train)),
        lambda: listed_samples(root, _with_masks(test)[0]),
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

    def photographs(folder: Path) -> Search:
        found = search_images(folder)
        masks = [path for path in found.images if path.suffix.lower() == ".png"]
        return found.without(masks, "with the masks (.png)")

    def free() -> tuple[Search, tuple[Path, ...]]:
        found = photographs(root / "MT_Free")
        images = tuple(sorted(found.images, key=lambda path: (_number(path), path.name)))
        cut = round(_LEARNED * len(images))
        while 0 < cut < len(images) and _number(images[cut]) - _number(images[cut - 1]) < _ONE_TILE:
            cut += 1
        return Search(images[:cut], found.left_out), images[cut:]

    def test() -> Labelled:
        samples = [normal_sample(image) for image in free()[1]]
        for folder in subfolders(root):
            if folder.name.startswith("MT_") and folder.name != "MT_Free":
                defect = folder.name[3:].lower()
                samples += [
                    Sample(image, 1, defect, (image.with_suffix(".png"),))
                    for image in photographs(folder).images
                ]
        return listed_samples(root, samples)

    name = "magnetic_tile"
    return {name: Category(name, root, name, lambda: free()[0], test)}


def _number(path: Path) -> int:
    match = _TILE.match(path.stem)
    return int(match[1]) if match else 0


def _with_masks(folder: Path) -> Found:
    """Images whose masks are next to them; those whose mask marks nothing are normal."""
    found = search_images(folder)
    beside = Masks(folder, set(files_if_any(folder)) - set(found.images))
    samples = []
    for image in found.images:
        folders = image.relative_to(folder).parts[:-1]
        masks = beside.of(image, (*map(str.lower, folders), image.stem.lower()))
        if masks and is_marked(read_masks(masks)).any():
            samples.append(Sample(image, 1, _ANOMALOUS, masks))
        else:
            samples.append(normal_sample(image))
    return samples, found.left_out


def _normal_of(samples: Sequence[Sample], left_out: Counter[str]) -> Search:
    images = tuple(sample.image for sample in samples if not sample.label)
    return Search(images, left_out + Counter({"anomalous": len(samples) - len(images)}))
