"""Labelled test images with their masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from draem.datasets.folders import (
    Search,
    existing_folder,
    files_if_any,
    log_taken,
    search_images,
    subfolders,
)
from draem.datasets.mask_names import Key, Masks
from draem.errors import DatasetError, DraemError, ImageError, counted, list_problems
from draem.imaging.decode import is_image_path, read_size

NORMAL = "normal"
TRUTH = "ground_truth"

_GOOD = ("good", "goods", NORMAL, "ok", "pass", "passed", "nodefect", "defectfree", "nondefective")
_TRUTH = ("groundtruth", "gt", "mask", "masks", "label", "labels")
_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_FIRST_NUMBER = re.compile(r"\d+[\s_-]+")
_LAYOUT = f"test/good and test/<defect>, with masks as {TRUTH}/<defect>/<name>_mask.png"


@dataclass(frozen=True, slots=True)
class Sample:
    """One test image.

    Attributes:
        image: Its file.
        label: 0 normal, 1 anomalous.
        defect: The defect's name, which is its folder's; "normal" if there is none.
        masks: The files that mark its defect pixels, each a part of them; empty for a normal image,
            or if the category has no masks at all.
        numbered: Whether the masks hold the number of a kind of defect in each pixel, so that every
            number above 0 is marked.
    """

    image: Path
    label: int
    defect: str
    masks: tuple[Path, ...] = ()
    numbered: bool = False


def normal_sample(image: Path) -> Sample:
    """A test image without a defect."""
    return Sample(image, 0, NORMAL)


def is_good(name: str) -> bool:
    """Whether a folder or a label of this name means good parts.

    Examples:
        >>> is_good("Good"), is_good("0_defect-free"), is_good("OK"), is_good("scratch")
        (True, True, True, False)
    """
    return _BETWEEN_WORDS.sub("", _FIRST_NUMBER.sub("", name.strip().lower(), count=1)) in _GOOD


def read_test_samples(root: str | Path, *, log: bool = False) -> tuple[Sample, ...]:
    """Find the test images of a category in MVTec layout, with their labels and masks.

    Images in `test/good` (also `normal`, `ok`, `pass`, `defect_free` and so on, in any case) are
    normal, those in every other folder of `test` anomalous; folders in these are searched too.
    Either kind may be missing. Without a folder of masks no image has a mask.

    Masks are in `ground_truth` (or `groundtruth`, `gt`, `masks` or `labels`), in a folder of the
    defect's name. A mask is called like its image, or with `_mask`, `_gt` or `_label` after the
    image's name or `mask_` and so on before it, in any case. Several masks of one image are
    numbered (`_mask_1`), or in a folder of its name. Without folders of the defects, masks are
    found by names that only one image has.

    Args:
        root: The category.
        log: Log which images were taken and what was left out.

    Raises:
        DatasetError: There are no test images, or some cannot be used: a defect image without a
            mask although others have one, a mask of another size than its image, an unreadable
            file. All are listed.
    """
    samples, found = search_category(existing_folder(root, f"a category with {_LAYOUT}"))
    if log:
        log_taken(found)
    return samples


def search_category(root: Path) -> tuple[tuple[Sample, ...], Search]:
    """The test images of a category, as `read_test_samples` takes them, and what was searched."""
    test = root / "test"
    if not test.is_dir():
        raise DatasetError("there is no folder `test` in it", path=root, expected=_LAYOUT)
    return search_samples(root, test, truth_folder(root))


def search_samples(root: Path, test: Path, truth: Path | None) -> tuple[tuple[Sample, ...], Search]:
    """The test images in a folder, by the folders in it.

    Args:
        root: The category, for messages.
        test: Its test images. A folder of masks in it is not searched.
        truth: Its masks; None if there are none.

    Raises:
        DatasetError: As in `read_test_samples`.
    """
    found = search_images(test)
    if truth is not None:
        masks = [image for image in found.images if truth in image.parents]
        found = found.without(masks, f"in `{truth.name}`")
    problems: list[DraemError] = []
    by_folder: dict[str, list[Path]] = {}
    for image in found.images:
        if image.parent == test:
            problems.append(
                DatasetError(
                    "is directly in `test`, so nothing says whether it is good", path=image
                )
            )
        else:
            by_folder.setdefault(image.relative_to(test).parts[0], []).append(image)
    finder = None if truth is None else _Truth(test, truth, by_folder)
    samples: list[Sample] = []
    for name, images in by_folder.items():
        if is_good(name):
            samples += map(normal_sample, images)
        elif finder is None:
            samples += [Sample(image, 1, name) for image in images]
        else:
            finder.add(name, images, samples, problems)
    refuse_problems(root, "test images", problems)
    if not samples:
        raise DatasetError("holds no test images", path=test, expected=_LAYOUT)
    return tuple(samples), found


def truth_folder(root: Path) -> Path | None:
    """The folder of masks of a category; None if there is none.

    Raises:
        DatasetError: There are several, and none of them is called `ground_truth`.
    """
    named = {folder.name: folder for folder in subfolders(root)}
    if TRUTH in named:
        return named[TRUTH]
    found = [
        folder
        for name, folder in named.items()
        if _BETWEEN_WORDS.sub("", name.lower()) in _TRUTH
        and any(map(is_image_path, files_if_any(folder)))
    ]
    if len(found) > 1:
        raise DatasetError(
            "has several folders that may hold its masks",
            path=root,
            expected=f"one, called {TRUTH}",
            found=", ".join(folder.name for folder in found),
        )
    return found[0] if found else None


class _Truth:
    """The masks of a category's anomalous images.

    Args:
        test: The test images.
        folder: The masks.
        by_folder: The images by their first folder in `test`.
    """

    def __init__(self, test: Path, folder: Path, by_folder: dict[str, list[Path]]) -> None:
        self._test = test
        self._folder = folder
        self._defects = {each.name.lower(): each for each in subfolders(folder)}
        directly = [path for path in files_if_any(folder) if path.parent == folder]
        self._flat = Masks(folder, directly)
        self._has_flat = any(map(is_image_path, directly))
        self._stems = Counter(
            image.stem.lower()
            for name, images in by_folder.items()
            if not is_good(name)
            for image in images
        )

    def add(
        self, name: str, images: Sequence[Path], samples: list[Sample], problems: list[DraemError]
    ) -> None:
        """Add the images of a defect to the samples, or what is wrong with them."""
        masks = self._defects.get(name.lower())
        if masks is None and not self._has_flat:
            problems.append(
                DatasetError(
                    f"the masks of {counted(len(images), 'image')} in test/{name} are missing",
                    path=self._folder / name,
                    expected=f"{images[0].stem}_mask.png and so on",
                    hint="If these parts are good, move their images to test/good",
                )
            )
            return
        own = None if masks is None else Masks(masks, files_if_any(masks))
        for image in images:
            try:
                found = self._masks_of(image, name, own)
                samples.append(Sample(image, 1, name, found))
            except (DatasetError, ImageError) as error:
                problems.append(error)

    def _masks_of(self, image: Path, name: str, own: Masks | None) -> tuple[Path, ...]:
        path = image.relative_to(self._test / name)
        key: Key = (*(part.lower() for part in path.parts[:-1]), image.stem.lower())
        found: tuple[Path, ...] = ()
        if own is not None:
            found = own.of(image, key)
        else:
            found = self._flat.of(image, (f"{name}_{key[-1]}".lower(),))
            if not found and self._stems[key[-1]] == 1:
                found = self._flat.of(image, key[-1:])
        if not found:
            wanted = self._folder / name / path.with_name(f"{image.stem}_mask.png")
            raise DatasetError("has no mask", path=image, expected=str(wanted))
        check_sizes(image, found)
        return found


def check_sizes(image: Path, masks: Sequence[Path]) -> None:
    """Check that masks are as large as their image.

    Raises:
        DatasetError: One is not.
        ImageError: A file cannot be read.
    """
    wanted = read_size(image)
    for mask in masks:
        came = read_size(mask)
        if came != wanted:
            raise DatasetError(
                "the mask has another size than its image",
                path=mask,
                expected=f"{wanted[1]}x{wanted[0]} (width x height)",
                found=f"{came[1]}x{came[0]}",
            )


def refuse_problems(root: Path, what: str, problems: Sequence[DraemError]) -> None:
    """Refuse images of which some cannot be used.

    Raises:
        DatasetError: There are problems; they are listed.
    """
    if problems:
        raise DatasetError(
            f"the {what} have {counted(len(problems), 'problem')}; repair them, so that "
            f"the figures speak of the whole set:\n{list_problems(problems).rstrip('.')}",
            path=root,
        )
