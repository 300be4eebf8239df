"""Which of a training folder's images are kept from training; groups are never cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draem.errors import DatasetError, counted

_HELD_OUT_STREAM = 1
_FOLDS_STREAM = 2
_ONE_GROUP_HINT = (
    "Set `group_by` to `image`, or to a regular expression that tells the parts apart; if there is "
    "only one part, take images of more parts or set `held_out_share` to 0"
)


def train_held_out_split(
    groups: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images are held out and which are trained on.

    Groups are held out as a whole, in random order, until the number of images is as near to the
    share as it gets. A group that alone has more than twice as many images stays in training, if
    there are smaller ones.

    Args:
        groups: (images,) int64, the group of each image, from 0.
        share: Of the images, to hold out; at least one group if it is not 0, and at least one is
            always left to train on.
        seed: Decides which.

    Returns:
        Indices of the held-out images and of the others, each in rising order. A single image is
        trained on.

    Raises:
        DatasetError: All images are in one group.
    """
    count = len(groups)
    everything = np.arange(count)
    if not share or count < 2:
        return everything[:0], everything
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        raise DatasetError(
            f"{counted(count, 'image')} are in one group, so none can be held out",
            expected="pictures of at least 2 parts",
            hint=_ONE_GROUP_HINT,
        )
    wanted = max(1, round(share * count))
    order = np.random.default_rng([seed, _HELD_OUT_STREAM]).permutation(len(sizes))
    small = order[sizes[order] <= 2 * wanted]
    candidates = small if len(small) else order
    candidates = candidates[: len(sizes) - 1]
    nearest = np.abs(np.cumsum(sizes[candidates]) - wanted).argmin()
    is_held_out = np.isin(groups, candidates[: nearest + 1])
    return everything[is_held_out], everything[~is_held_out]


def group_folds(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal images to folds of about as many images each, groups as a whole.

    Args:
        groups: (images,) int64, the group of each image, from 0; numbers may be missing.
        folds: How many; at least 2.
        seed: Decides which group goes where.

    Returns:
        (images,) int64, the fold of each image, from 0; no fold is empty.

    Raises:
        DatasetError: There are fewer groups than folds.
    """
    names, places, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise DatasetError(
            f"{counted(len(groups), 'image')} in {counted(len(names), 'group')} cannot be dealt to "
            f"{folds} folds",
            expected=f"at least {folds} groups",
            hint="Take images of more parts, or fewer folds",
        )
    order = np.random.default_rng([seed, _FOLDS_STREAM]).permutation(len(names))
    fold_of = np.empty(len(names), np.int64)
    filled = np.zeros(folds, np.int64)
    # Large groups first, so that small ones can even the folds out.
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    return fold_of[places]
