"""Folders in MVTec layout: which images to train on, and which to test on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from draem.datasets.folders import (
    Search,
    existing_folder,
    log_taken,
    nonempty,
    search_images,
    subfolders,
)
from draem.datasets.samples import TRUTH, is_good
from draem.errors import DatasetError
from draem.output_paths import without_results

_NOT_FOR_TRAINING = (
    *("test", "ground_truth", "anomalous", "anomaly", "anomalies", "bad", "defect", "defective"),
    *("defects", "fail", "nok", "ng", "reject", "rejects"),
)


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
    found = search_normal_images(existing_folder(root, "a folder of images of good parts"))
    if log:
        log_taken(found)
    return found.images


def search_normal_images(root: Path) -> Search:
    """The normal images in a folder, as `read_normal_images` takes them."""
    good = good_folder(root)
    if good is not None:
        return nonempty(good, search_images(good))
    if TRUTH in root.resolve().parts[-2:]:
        raise DatasetError(
            f"a folder `{TRUTH}` holds masks, not photographs",
            path=root,
            expected="a folder of images of good parts",
        )
    found = _without_results(search_images(root))
    _refuse_mixed_folders(root, found.images)
    return nonempty(root, found)


def good_folder(root: Path) -> Path | None:
    """A category's folder `train/good`, also `train/OK` and so on; None if there is none.

    Raises:
        DatasetError: There are several, and none of them is called `good`.
    """
    train = root / "train"
    if not train.is_dir():
        return None
    found = [folder for folder in subfolders(train) if is_good(folder.name)]
    exact = [folder for folder in found if folder.name == "good"]
    if len(found) > 1 and not exact:
        raise DatasetError(
            "has several folders of good parts",
            path=train,
            expected="one, called good",
            found=", ".join(folder.name for folder in found),
        )
    return next(iter(exact or found), None)


def _without_results(found: Search) -> Search:
    kept = set(without_results(found.images))
    return found.without(
        [image for image in found.images if image not in kept], "results of an earlier inspection"
    )


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
    if good_folder(folder) is not None or (folder / "test").is_dir():
        raise DatasetError(
            "is a category with images to train on and to measure with",
            path=folder,
            expected="a folder of good images that the model was not trained on",
            hint="Name a folder of other good images; those in train/good were learned from, and "
            "with those in test/good the figures of `draem evaluate` would look too good",
        )
    return search_normal_images(folder)


def _photographs(folder: Path) -> Search:
    """The images in a folder and below, without the masks of a category in MVTec layout."""
    found = search_images(folder)
    masks = [i for i in found.images if TRUTH in i.relative_to(folder).parts[:-1]]
    return nonempty(folder, found.without(masks, f"in `{TRUTH}`"))


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
    for folder in {image.parent for image in images if is_good(image.parent.name)}:
        others = [other.name for other in subfolders(folder.parent) if other != folder]
        if folder != root and others:
            raise DatasetError(
                f"there is a folder `{others[0]}` next to `{folder.name}`, so anomalous images "
                "might be learned as normal",
                path=folder.parent,
                hint=f"Name {folder} if only that holds images of good parts",
            )
