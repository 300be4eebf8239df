"""Folders in MVTec layout: which images to train on, and which to test on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from draem.datasets.folders import (
    existing_folder,
    files_if_any,
    find_images,
    nonempty,
    subfolders,
)
from draem.errors import DatasetError, DraemError, ImageError, counted, list_problems
from draem.imaging.decode import IMAGE_SUFFIXES, read_size
from draem.output_paths import without_results

NORMAL = "normal"

_LAYOUT = "test/good and test/<defect>, with masks as ground_truth/<defect>/<name>_mask.png"
_MASKS = "ground_truth"
_GOOD = ("good", NORMAL)
_GOOD_WORDS = (*_GOOD, "ok", "pass")
_NOT_FOR_TRAINING = (
    *("test", "ground_truth", "anomalous", "anomaly", "anomalies", "bad", "defect", "defective"),
    *("defects", "fail", "nok", "ng", "reject", "rejects"),
)
_MASK_SUFFIXES = (".png", *(suffix for suffix in IMAGE_SUFFIXES if suffix != ".png"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One test image.

    Attributes:
        image: Its file.
        label: 0 normal, 1 anomalous.
        defect: The defect's name, which is its folder's; "normal" if there is none.
        mask: The file that marks its defect pixels; None for a normal image, or if the category has
            no masks at all.
    """

    image: Path
    label: int
    defect: str
    mask: Path | None


def read_normal_images(root: str | Path) -> tuple[Path, ...]:
    """Find the normal images to learn from.

    Args:
        root: A category in MVTec layout (`train/good`), or a folder of normal images: those
            directly in it or, if there are none, those in its folders; without the maps and
            overlays of an earlier inspection.

    Raises:
        DatasetError: The folder is missing or holds no images, or masks, or it seems to hold
            anomalous images too, which would be learned as normal.
    """
    root = existing_folder(root, "a folder of images of good parts")
    good = root / "train" / "good"
    if good.is_dir():
        return nonempty(good, find_images(good))
    if _MASKS in root.resolve().parts[-2:]:
        raise DatasetError(
            f"a folder `{_MASKS}` holds masks, not photographs",
            path=root,
            expected="a folder of images of good parts",
        )
    images = without_results(find_images(root) or find_images(root, recursive=True))
    _refuse_mixed_folders(root, images)
    return nonempty(root, images)


def read_test_samples(root: str | Path) -> tuple[Sample, ...]:
    """Find the test images of a category in MVTec layout, with their labels and masks.

    Images in `test/good` (or `test/normal`) are normal, those in every other folder of `test`
    anomalous. Either kind may be missing. Without a folder `ground_truth` no image has a mask.

    Raises:
        DatasetError: There are no test images, or some cannot be used: a defect image without a
            mask although others have one, a mask of another size than its image, an unreadable
            file. All are listed.
    """
    root = existing_folder(root, f"a category with {_LAYOUT}")
    test = root / "test"
    if not test.is_dir():
        raise DatasetError("there is no folder `test` in it", path=root, expected=_LAYOUT)
    samples: list[Sample] = []
    problems: list[DraemError] = [
        DatasetError("is directly in `test`, so nothing says whether it is good", path=path)
        for path in find_images(test)
    ]
    for folder in subfolders(test):
        if folder.name in _GOOD:
            samples += [Sample(image, 0, NORMAL, None) for image in find_images(folder)]
        else:
            _add_anomalous(folder, root / _MASKS, samples, problems)
    if problems:
        raise DatasetError(
            f"the test images have {counted(len(problems), 'problem')}; repair them, so that "
            f"the figures speak of the whole test set:\n{list_problems(problems).rstrip('.')}",
            path=root,
        )
    if not samples:
        raise DatasetError("holds no test images", path=test, expected=_LAYOUT)
    return tuple(samples)


def gather_images(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """List the image files that a user names, in the order named, each once.

    Args:
        paths: Files, kept whatever their names end in, and folders, searched with theirs but for
            `ground_truth`, which holds masks.

    Raises:
        DatasetError: A path does not exist, or a folder holds no images.
    """
    return _gathered(paths, _photographs)


def gather_good_images(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """List the images of good parts that a user names, in the order named, each once.

    Args:
        paths: Files, kept whatever their names end in, and folders of normal images: those
            directly in one or, if there are none, those in its folders; without the maps and
            overlays of an earlier inspection.

    Raises:
        DatasetError: A path does not exist, a folder holds no images, or masks, or it is a
            category, whose good images are there to train on and to measure with.
    """
    return without_results(_gathered(paths, _good_photographs))


def _gathered(
    paths: Sequence[str | Path], images_in: Callable[[Path], tuple[Path, ...]]
) -> tuple[Path, ...]:
    gathered: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise DatasetError("does not exist", path=path, expected="an image file or a folder")
        for image in images_in(path) if path.is_dir() else (path,):
            gathered.setdefault(os.path.abspath(image), image)  # noqa: PTH100 - links stay apart
    return tuple(gathered.values())


def _good_photographs(folder: Path) -> tuple[Path, ...]:
    if (folder / "train" / "good").is_dir() or (folder / "test").is_dir():
        raise DatasetError(
            "is a category with images to train on and to measure with",
            path=folder,
            expected="a folder of good images that the model was not trained on",
            hint="Name a folder of other good images; those in train/good were learned from, and "
            "with those in test/good the figures of `draem evaluate` would look too good",
        )
    return read_normal_images(folder)


def _photographs(folder: Path) -> tuple[Path, ...]:
    """The images in a folder and below, without the masks of a category in MVTec layout."""
    images = find_images(folder, recursive=True)
    return nonempty(
        folder,
        tuple(i for i in images if _MASKS not in i.relative_to(folder).parts[:-1]),
    )


def _add_anomalous(
    folder: Path, truth: Path, samples: list[Sample], problems: list[DraemError]
) -> None:
    images = find_images(folder)
    if not truth.exists():
        samples += [Sample(image, 1, folder.name, None) for image in images]
        return
    masks = truth / folder.name
    if images and not masks.is_dir():
        problems.append(
            DatasetError(
                f"the masks of {counted(len(images), 'image')} in test/{folder.name} are missing",
                path=masks,
                expected=f"{images[0].stem}_mask.png and so on",
                hint="If these parts are good, move their images to test/good",
            )
        )
        return
    by_name = {(path.stem, path.suffix.lower()): path for path in files_if_any(masks)}
    for image in images:
        mask = _mask_of(image, masks, by_name)
        if isinstance(mask, DraemError):
            problems.append(mask)
        else:
            samples.append(Sample(image, 1, folder.name, mask))


def _mask_of(
    image: Path, masks: Path, by_name: dict[tuple[str, str], Path]
) -> Path | DatasetError | ImageError:
    """An image's mask, or what is wrong with it."""
    names = [(stem, s) for stem in (f"{image.stem}_mask", image.stem) for s in _MASK_SUFFIXES]
    mask = next((by_name[name] for name in names if name in by_name), None)
    if mask is None:
        wanted_mask = masks / f"{image.stem}_mask.png"
        return DatasetError("has no mask", path=image, expected=str(wanted_mask))
    try:
        wanted, came = read_size(image), read_size(mask)
    except ImageError as error:
        return error
    if wanted != came:
        return DatasetError(
            "the mask has another size than its image",
            path=mask,
            expected=f"{wanted[1]}x{wanted[0]} (width x height)",
            found=f"{came[1]}x{came[0]}",
        )
    return mask


def _refuse_mixed_folders(root: Path, images: Sequence[Path]) -> None:
    """Refuse to sweep folders that are split into good and other parts."""
    names = {part.lower() for image in images for part in image.relative_to(root).parts[:-1]}
    names |= {folder.name.lower() for folder in subfolders(root)}
    for name in _NOT_FOR_TRAINING:
        if name in names:
            raise DatasetError(
                f"there is a folder `{name}` in it but no train/good, so anomalous images might "
                "be learned as normal",
                path=root,
                expected="normal images in train/good, or a folder of nothing but normal images",
                hint="Name the folder that holds only images of good parts, or one category",
            )
    for folder in {image.parent for image in images if image.parent.name.lower() in _GOOD_WORDS}:
        others = [other.name for other in subfolders(folder.parent) if other != folder]
        if folder != root and others:
            raise DatasetError(
                f"there is a folder `{others[0]}` next to `{folder.name}`, so anomalous images "
                "might be learned as normal",
                path=folder.parent,
                hint=f"Name {folder} if only that holds images of good parts",
            )
