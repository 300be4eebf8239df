"""One product of a data set: images to learn from, and labelled ones to test with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from draem.datasets.folders import Search, log_taken
from draem.datasets.samples import Sample, check_sizes, refuse_problems
from draem.errors import DatasetError, DraemError, ImageError

Labelled = tuple[tuple[Sample, ...], Search]
"""Test images with their labels and masks, and what was searched for them."""


@dataclass(frozen=True, slots=True)
class Category:
    """One product of a data set. Its files are listed when they are asked for.

    Attributes:
        name: The product.
        root: The folder, or the manifest, that it was found in.
        layout: Name of the layout that it was found by.
    """

    name: str
    root: Path
    layout: str
    _normal: Callable[[], Search] = field(repr=False, compare=False)
    _test: Callable[[], Labelled] = field(repr=False, compare=False)

    def normal_images(self, *, log: bool = False) -> tuple[Path, ...]:
        """The normal images to learn from.

        Args:
            log: Log which images were taken and what was left out.

        Raises:
            DatasetError: There are none, or some listed ones are missing.
        """
        found = self._normal()
        if not found.images:
            raise DatasetError(
                f"the category {self.name!r} has no normal images to learn from", path=self.root
            )
        if log:
            log_taken(found)
        return found.images

    def test_samples(self, *, log: bool = False) -> tuple[Sample, ...]:
        """The test images with their labels and masks.

        Args:
            log: Log which images were taken and what was left out.

        Raises:
            DatasetError: There are none, or some cannot be used; all of these are listed.
        """
        samples, found = self._test()
        if not samples:
            raise DatasetError(f"the category {self.name!r} has no test images", path=self.root)
        if log:
            log_taken(found)
        return samples


Categories = Mapping[str, Category]


def listed_images(root: Path, images: Iterable[Path]) -> Search:
    """Images that a list names.

    Raises:
        DatasetError: Some are missing; all of them are listed.
    """
    images = tuple(images)
    refuse_problems(root, "images to learn from", _missing(images))
    return Search(images, Counter())


def listed_samples(root: Path, samples: Iterable[Sample]) -> Labelled:
    """Labelled images that a list names.

    Raises:
        DatasetError: An image or a mask is missing, cannot be read, or a mask has another size than
            its image; all of these are listed.
    """
    samples = tuple(samples)
    problems: list[DraemError] = []
    for sample in samples:
        missing = _missing((sample.image, *sample.masks))
        problems += missing or _wrong_sizes(sample)
    refuse_problems(root, "test images", problems)
    return samples, Search(tuple(sample.image for sample in samples), Counter())


def _missing(files: Iterable[Path]) -> list[DraemError]:
    return [
        DatasetError("does not exist, though the data set lists it", path=file)
        for file in files
        if not file.is_file()
    ]


def _wrong_sizes(sample: Sample) -> list[DraemError]:
    try:
        check_sizes(sample.image, sample.masks)
    except (DatasetError, ImageError) as error:
        return [error]
    return []
