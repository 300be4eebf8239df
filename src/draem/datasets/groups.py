"""Which pictures show one part: they must not be on both sides of a split.

The held-out score of a part whose other pictures were trained on comes out too low, and a threshold
from such scores rejects more good parts than it promises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.config import check_group_by
from draem.datasets.likeness import Look, like_neighbours
from draem.errors import DatasetError, counted

FEWEST_GROUPS = 4
"""Fewer groups are refused, or not taken by `auto`, if there are as many different pictures."""

_SERIES = re.compile(r"(.+)[ _.-](?:[a-z]{0,8}\d{1,2}|[a-z])", re.IGNORECASE)
"""A name that ends in a short part: `_view1`, `-a`, `_Part4`, `_1`; but not `_10181`."""
_NUMBER = re.compile(r"\d+$")
_FEWEST_SERIES = 8
_LARGEST_SHARE = 0.25
_GAPS = 0.1


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of some images.

    Attributes:
        ids: (images,) int64, the group of each image; groups are numbered as they first appear.
        by: What they were found by, such as "by likeness".
    """

    ids: NDArray[np.int64]
    by: str

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.ids))


def group_images(paths: Sequence[Path], looks: Sequence[Look], group_by: str = "auto") -> Groups:
    """Assign every image to a group; the same pictures, pixel by pixel, are always in one.

    `auto` goes by names if they form obvious series: a common beginning with a differing short end
    such as `_view1`, `-a`, `_exp3` or `_1`. There must be at least 8 series, most of them with
    several images and none with more than a quarter of all. Otherwise, if all names end in numbers
    that leave out at least a tenth of their range, `auto` goes by the likeness of neighbours in
    number order. Otherwise, or if that gives fewer than 4 groups or one with more than a quarter of
    the images, each image is a group.

    Args:
        paths: The image files.
        looks: `look_at` of each.
        group_by: `auto`, `image` (each alone), `folder` (that which the file is in) or a regular
            expression that is searched for in the file's name: images with the same first capture
            group, or whole match without one, are a group. A name without a match stands alone.

    Raises:
        RecipeError: `group_by` is no regular expression.
        DatasetError: An expression matches no name; or folders or an expression give fewer than 4
            groups, although there are as many different pictures.
    """
    check_group_by(group_by)
    different = len({look.digest for look in looks})
    if group_by == "auto":
        return _automatic(paths, looks)
    if group_by == "image":
        return _with_copies(range(len(paths)), looks, "by content")
    if group_by == "folder":
        found = _with_copies([path.parent for path in paths], looks, "by folder")
    else:
        found = _with_copies(_keys(paths, group_by), looks, "by expression")
    if found.count < FEWEST_GROUPS <= different:
        raise DatasetError(
            f"`{group_by}` puts {counted(len(paths), 'image')} into "
            f"{counted(found.count, 'group')}, too few to hold some out",
            path=paths[0].parent,
            expected=f"at least {FEWEST_GROUPS} groups",
            hint="Give `group_by` a regular expression that tells more parts apart, or `image` if "
            "each image shows another part",
        )
    return found


def told_groups(groups: Groups) -> str:
    """The groups in words; empty if each image is one.

    Example:
        >>> told_groups(Groups(np.array([0, 0, 1]), "by name"))
        '3 images in 2 groups (by name)'
    """
    if groups.count == len(groups.ids):
        return ""
    images, found = counted(len(groups.ids), "image"), counted(groups.count, "group")
    return f"{images} in {found} ({groups.by})"


def _automatic(paths: Sequence[Path], looks: Sequence[Look]) -> Groups:
    names = [_series(path) for path in paths]
    if _plausible_series(names):
        return _with_copies(names, looks, "by name")
    order = _number_order(paths)
    links = [(order[i], order[j]) for i, j in like_neighbours([looks[i].thumbnail for i in order])]
    alone = _with_copies(range(len(paths)), looks, "by content")
    if not links:
        return alone
    found = Groups(_linked(len(paths), [*links, *_copies(looks)]), "by likeness")
    too_large = np.bincount(found.ids).max() > _LARGEST_SHARE * len(paths)
    return alone if too_large or found.count < FEWEST_GROUPS else found


def _series(path: Path) -> tuple[Path, str]:
    match = _SERIES.fullmatch(path.stem)
    return path.parent, match[1] if match else path.stem


def _plausible_series(names: Sequence[tuple[Path, str]]) -> bool:
    sizes = Counter(names).values()
    several = sum(size > 1 for size in sizes)
    return (
        len(sizes) >= _FEWEST_SERIES
        and 2 * several > len(sizes)
        and max(sizes) <= _LARGEST_SHARE * len(names)
    )


def _number_order(paths: Sequence[Path]) -> list[int]:
    """Places of the images by running number; none unless the numbers have gaps."""
    numbers = [_NUMBER.search(path.stem) for path in paths]
    order = [
        (path.parent, int(number[0]), path.name, place)
        for place, (path, number) in enumerate(zip(paths, numbers, strict=True))
        if number
    ]
    ends: dict[Path, tuple[int, int]] = {}
    for folder, number, _, _ in order:
        low, high = ends.get(folder, (number, number))
        ends[folder] = min(low, number), max(high, number)
    range_of_numbers = sum(high - low + 1 for low, high in ends.values())
    if len(order) < len(paths) or len(paths) > (1 - _GAPS) * range_of_numbers:
        return []
    return [place for *_, place in sorted(order)]


def _keys(paths: Sequence[Path], expression: str) -> list[Hashable]:
    matches = [re.search(expression, path.name) for path in paths]
    if not any(matches):
        raise DatasetError(
            f"the regular expression `{expression}` of `group_by` matches no file name",
            path=paths[0].parent,
            expected=f"a match in names such as {paths[0].name}",
        )
    keys: list[Hashable] = []
    for place, match in enumerate(matches):
        key = match and (match[1] if match.re.groups else match[0])
        keys.append(place if key is None else key)
    return keys


def _with_copies(keys: Iterable[Hashable], looks: Sequence[Look], by: str) -> Groups:
    """Images with one key are a group, and so are copies, even with different keys."""
    return Groups(_linked(len(looks), [*_same(keys), *_copies(looks)]), by)


def _copies(looks: Sequence[Look]) -> list[tuple[int, int]]:
    return _same(look.digest for look in looks)


def _same(keys: Iterable[Hashable]) -> list[tuple[int, int]]:
    """Each place whose key was there before, with the first place of that key."""
    first: dict[Hashable, int] = {}
    return [(first.setdefault(key, place), place) for place, key in enumerate(keys)]


def _linked(count: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """The group of each of so many places if linked places are together."""
    root = list(range(count))

    def root_of(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for one, other in links:
        low, high = sorted((root_of(one), root_of(other)))
        root[high] = low
    # The root of a group is its first place, so the numbers rise as groups first appear.
    return np.unique([root_of(place) for place in range(count)], return_inverse=True)[1].astype(
        np.int64
    )
