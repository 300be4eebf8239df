"""Folders in MVTec layout: which images to train on, and which to test on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from draem.datasets.folders import (
    MASK_NAME,
    Search,
    existing_folder,
    files_if_any,
    log_taken,
    nonempty,
    search_images,
    subfolders,
)
from draem.errors import DatasetError, DraemError, ImageError, counted, list_problems
from draem.imaging.decode import is_image_path, read_size
from draem.output_paths import without_results

NORMAL = "normal"

_LAYOUT = "test/good and test/<defect>, with masks as ground_truth/<defect>/<name>_mask.png"
_MASKS = "ground_truth"
_GOOD_WORDS = ("good", NORMAL, "ok", "pass")
_NOT_FOR_TRAINING = (
    *("test", "ground_truth", "anomalous", "anomaly", "anomalies", "bad", "defect", "defective"),
    *("defects", "fail", "nok", "ng", "reject", "rejects"),
)


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


def read_normal_images(root: str | Path, *, log: bool = False) -> tuple[Path, ...]:
    """Find the normal images to learn from.

    Args:
        root: A category in MVTec layout (`train/good`), or a folder of normal images; both with
            the folders in them, but without the maps and overlays of an earlier inspection, and
            without masks that are next to their image.
        log: Log which images were taken and what was left out.

    Raises:
        DatasetError: The folder is missing or holds no images, or masks, or it seems to hold
            anomalous images too, which would be learned as normal.
    """
    found = _normal_images(existing_folder(root, "a folder of images of good parts"))
    if log:
        log_taken(found)
    return found.images


def _normal_images(root: Path) -> Search:
    good = root / "train" / "good"
    if good.is_dir():
        found = search_images(good)
        nonempty(good, found.images)
        return found
    if _MASKS in root.resolve().parts[-2:]:
        raise DatasetError(
            f"a folder `{_MASKS}` holds masks, not photographs",
            path=root,
            expected="a folder of images of good parts",
        )
    found = search_images(root)
    found = _without_results(found)
    _refuse_mixed_folders(root, found.images)
    nonempty(root, found.images)
    return found


def _without_results(found: Search) -> Search:
    kept = set(without_results(found.images))
    return found.without(
        [image for image in found.images if image not in kept], "results of an earlier inspection"
    )


def read_test_samples(root: str | Path, *, log: bool = False) -> tuple[Sample, ...]:
    """Find the test images of a category in MVTec layout, with their labels and masks.

    Images in `test/good` (also `normal`, `ok` and `pass`, in any case) are normal, those in every
    other folder of `test` anomalous; folders in these are searched too. Either kind may be missing.
    Without a folder `ground_truth` no image has a mask.

    A mask is called like its image, or with `_mask`, `_gt` or `_label` after the image's name or
    `mask_` and so on before it, in any case; or it is the only image in a folder of that name.

    Args:
        root: The category.
        log: Log which images were taken and what was left out.

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
    found = search_images(test)
    problems: list[DraemError] = [
        DatasetError("is directly in `test`, so nothing says whether it is good", path=path)
        for path in found.images
        if path.parent == test
    ]
    for folder in subfolders(test):
        images = [image for image in found.images if folder in image.parents]
        if folder.name.lower() in _GOOD_WORDS:
            samples += [Sample(image, 0, NORMAL, None) for image in images]
        else:
            _add_anomalous(folder, images, root / _MASKS, samples, problems)
    if problems:
        raise DatasetError(
            f"the test images have {counted(len(problems), 'problem')}; repair them, so that "
            f"the figures speak of the whole test set:\n{list_problems(problems).rstrip('.')}",
            path=root,
        )
    if not samples:
        raise DatasetError("holds no test images", path=test, expected=_LAYOUT)
    if log:
        log_taken(found)
    return tuple(samples)


def gather_images(paths: Sequence[str | Path], *, log: bool = False) -> tuple[Path, ...]:
    """List the image files that a user names, in the order named, each once.

    Args:
        paths: Files, kept whatever their names end in, and folders, searched with theirs but for
            `ground_truth`, which holds masks, and without masks that are next to their image and
            the maps and overlays of an earlier inspection.
        log: Log which images were taken and what was left out.

    Raises:
        DatasetError: A path does not exist, or a folder holds no images.
    """
    return _gathered(paths, _photographs, log)


def expand_folders(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """Paths with the images of folders in their place; files are kept, even if they are missing.

    Raises:
        DatasetError: A folder holds no images.
    """
    expanded: list[Path] = []
    for path in map(Path, paths):
        expanded += _photographs(path).images if path.is_dir() else (path,)
    return tuple(expanded)


def gather_good_images(paths: Sequence[str | Path], *, log: bool = False) -> tuple[Path, ...]:
    """List the images of good parts that a user names, in the order named, each once.

    Args:
        paths: Files, kept whatever their names end in, and folders of normal images, as in
            `read_normal_images`.
        log: Log which images were taken and what was left out.

    Raises:
        DatasetError: A path does not exist, a folder holds no images, or masks, or it is a
            category, whose good images are there to train on and to measure with.
    """
    return _gathered(paths, _good_photographs, log)


def _gathered(
    paths: Sequence[str | Path], images_in: Callable[[Path], Search], log: bool
) -> tuple[Path, ...]:
    gathered: dict[str, Path] = {}
    left_out = Counter[str]()
    for path in map(Path, paths):
        if not path.exists():
            raise DatasetError("does not exist", path=path, expected="an image file or a folder")
        found = images_in(path) if path.is_dir() else Search((path,), Counter())
        left_out += found.left_out
        for image in found.images:
            gathered.setdefault(os.path.abspath(image), image)  # noqa: PTH100 - links stay apart
    found = Search(tuple(gathered.values()), left_out)
    found = _without_results(found)
    if log:
        log_taken(found)
    return found.images


def _good_photographs(folder: Path) -> Search:
    if (folder / "train" / "good").is_dir() or (folder / "test").is_dir():
        raise DatasetError(
            "is a category with images to train on and to measure with",
            path=folder,
            expected="a folder of good images that the model was not trained on",
            hint="Name a folder of other good images; those in train/good were learned from, and "
            "with those in test/good the figures of `draem evaluate` would look too good",
        )
    return _normal_images(folder)


def _photographs(folder: Path) -> Search:
    """The images in a folder and below, without the masks of a category in MVTec layout."""
    found = search_images(folder)
    masks = [i for i in found.images if _MASKS in i.relative_to(folder).parts[:-1]]
    found = found.without(masks, f"in `{_MASKS}`")
    nonempty(folder, found.images)
    return found


def _add_anomalous(
    folder: Path,
    images: Sequence[Path],
    truth: Path,
    samples: list[Sample],
    problems: list[DraemError],
) -> None:
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
    by_name: dict[tuple[str, ...], list[Path]] = {}
    for path in files_if_any(masks):
        if is_image_path(path):
            for name in _names_of_image(path.relative_to(masks)):
                by_name.setdefault(name, []).append(path)
    for image in images:
        mask = _mask_of(image, folder, masks, by_name)
        if isinstance(mask, DraemError):
            problems.append(mask)
        else:
            samples.append(Sample(image, 1, folder.name, mask))


def _names_of_image(mask: Path) -> list[tuple[str, ...]]:
    """What a mask's image may be called, in lower case: its folders and its stem."""
    *folders, _ = (part.lower() for part in mask.parts)
    stem = mask.stem.lower()
    match = MASK_NAME.fullmatch(stem)
    names = [(*folders, stem), *([(*folders, match[1] or match[2])] if match else ())]
    # MVTec LOCO has a folder of masks for each image.
    return [*names, tuple(folders)] if folders else names


def _mask_of(
    image: Path, folder: Path, masks: Path, by_name: dict[tuple[str, ...], list[Path]]
) -> Path | DatasetError | ImageError:
    """An image's mask, or what is wrong with it."""
    *folders, _ = (part.lower() for part in image.relative_to(folder).parts)
    found = by_name.get((*folders, image.stem.lower()), [])
    wanted_mask = masks / image.relative_to(folder).with_name(f"{image.stem}_mask.png")
    if not found:
        return DatasetError("has no mask", path=image, expected=str(wanted_mask))
    # MVTec AD's own name first, then the name of the image, then all others.
    names = [f"{image.stem}_mask.png", f"{image.stem}_mask", image.stem]
    mask = min(found, key=lambda path: _place_of(path, names))
    if len(found) > 1 and _place_of(mask, names) == len(names):
        return DatasetError(
            "has several masks",
            path=image,
            expected=f"one, such as {wanted_mask}",
            found=", ".join(str(path.relative_to(masks)) for path in found),
        )
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


def _place_of(mask: Path, names: list[str]) -> int:
    return next((i for i, name in enumerate(names) if name in (mask.name, mask.stem)), len(names))


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
