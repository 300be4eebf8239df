"""A data set of any layout as one in MVTec AD's, or as a manifest."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from draem.datasets.layouts.category import Category
from draem.datasets.layouts.listed import MANIFEST_COLUMNS
from draem.datasets.samples import NORMAL, TRUTH, Sample
from draem.errors import DatasetError, OutputError
from draem.files import make_folder, replacing, write_text
from draem.imaging.encode import write_png
from draem.imaging.mask import is_marked, read_masks

To = Literal["mvtec", "manifest"]
Progress = Callable[[int, int], None]

_Job = tuple[Path, Sample | Path]
"""A file to write, and what goes into it: an image, or the masks of a sample."""


def convert(
    categories: Sequence[Category], out: str | Path, to: To, progress: Progress | None = None
) -> Path:
    """Write categories in another layout.

    Args:
        categories: What to write.
        out: For `mvtec` a folder that is new or empty: images are copied as they are, and masks
            become one PNG file per image, 255 where it is marked. For `manifest` a CSV file, with
            paths from its folder where they are below it; an image with several masks is refused.
        to: The layout.
        progress: Called with (files written, files in all).

    Returns:
        What was written.

    Raises:
        DatasetError: The images of a category cannot be used, or do not fit into the layout.
        OutputError: The target exists already, or cannot be written.
    """
    out = Path(out)
    if to == "manifest":
        return _write_manifest(categories, out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            "is there already", path=out, expected="a new folder", hint="Name another with --out"
        )
    jobs = [job for category in categories for job in _jobs(category, out / category.name)]
    for done, (target, source) in enumerate(jobs, 1):
        make_folder(target.parent)
        if isinstance(source, Path):
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)
        else:
            levels = read_masks(source.masks, numbered=source.numbered)
            write_png(target, np.where(is_marked(levels), 255, 0).astype(np.uint8))
        if progress:
            progress(done, len(jobs))
    return out


def _jobs(category: Category, root: Path) -> Iterator[_Job]:
    images = category.normal_images()
    for name, image in zip(_names(images), images, strict=True):
        yield root / "train" / "good" / f"{name}{image.suffix}", image
    by_defect: dict[str, list[Sample]] = {}
    for sample in category.test_samples():
        by_defect.setdefault(sample.defect, []).append(sample)
    masked = any(sample.masks for samples in by_defect.values() for sample in samples)
    for defect, samples in by_defect.items():
        folder = "good" if defect == NORMAL else defect
        names = _names([sample.image for sample in samples])
        for name, sample in zip(names, samples, strict=True):
            yield root / "test" / folder / f"{name}{sample.image.suffix}", sample.image
            if sample.masks:
                yield root / TRUTH / folder / f"{name}_mask.png", sample
            elif masked and sample.label:
                raise DatasetError(
                    "has no mask, though others have one",
                    path=sample.image,
                    expected="masks of all anomalous images, or of none",
                    hint="Convert to a manifest instead",
                )


def _names(images: Sequence[Path]) -> list[str]:
    """Stems, or with as much of the path before them as makes them differ."""
    if len({image.stem.lower() for image in images}) == len(images):
        return [image.stem for image in images]
    common = Path(os.path.commonpath([image.parent for image in images]))
    parts = [image.relative_to(common).with_suffix("").parts for image in images]
    names = ["_".join(each) for each in parts]
    if len(set(names)) == len(names):
        return names
    return [f"{number:06d}" for number in range(len(images))]


def _write_manifest(categories: Sequence[Category], out: Path) -> Path:
    if out.suffix.lower() != ".csv":
        raise OutputError("is no name for a manifest", path=out, expected="a name ending in .csv")
    if out.exists():
        raise OutputError("is there already", path=out, hint="Name another with --out")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MANIFEST_COLUMNS)
    make_folder(out.parent)
    for category in categories:
        for image in category.normal_images():
            writer.writerow([_path(image, out), NORMAL, "train", "", category.name])
        for sample in category.test_samples():
            if len(sample.masks) > 1 or sample.numbered:
                raise DatasetError(
                    "has masks that a manifest cannot hold",
                    path=sample.image,
                    expected="one mask, white where the defect is",
                    hint="Convert to mvtec instead, which writes such masks anew",
                )
            masks = [_path(mask, out) for mask in sample.masks] or [""]
            writer.writerow(
                [_path(sample.image, out), sample.defect, "test", *masks, category.name]
            )
    return write_text(out, text.getvalue())


def _path(file: Path, manifest: Path) -> str:
    folder = manifest.parent.resolve()
    file = file.resolve()
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
