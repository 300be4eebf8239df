"""Masks from files: of defects, and of the region of interest. Both are read alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.errors import ImageError
from draem.imaging.decode import decode_alpha, decode_mask

_MARKED = 128
_NOISE = 16
"""Levels up to this one come from lossy compression, and mean black."""
_LEAST_PIXELS, _LEAST_SHARE = 64, 0.02
"""A level of soft edges has fewer pixels, or a smaller share of all that are not black."""
_TOLD_LEVELS = 8
_EXPECTED = "black (0) and white (255, or 1 in the whole file), with grey at soft edges at most"


def read_mask(path: str | Path) -> NDArray[np.uint8]:
    """Read a mask: levels of 128 and more are marked.

    A coloured mask counts by its brightest channel. If all of the picture has one colour and it
    differs in transparency alone, what is opaque is marked.

    Args:
        path: An image file of any kind.

    Returns:
        Grey levels, (height, width), uint8, 0 to 255.

    Raises:
        ImageError: The file cannot be read, is transparent where it is white, or has levels that
            are neither black nor white; they are listed.
    """
    levels, alpha = decode_mask(path), decode_alpha(path)
    if alpha is not None and (alpha < _MARKED).any():
        if (levels == levels.flat[0]).all():
            levels = alpha
        elif (alpha[levels >= _MARKED] < _MARKED).any():
            raise ImageError(
                "the mask is transparent where it is white",
                path=path,
                expected="an opaque picture, white where it is marked and black elsewhere",
                hint="Put it on a black background and save it without transparency",
            )
    counts = np.bincount(levels.ravel(), minlength=256)
    marked = counts[_NOISE + 1 :].sum()
    grey = counts[_NOISE + 1 : _MARKED]
    unclear = ((grey >= _LEAST_PIXELS) & (grey >= _LEAST_SHARE * marked)).any()
    if unclear or 0 < levels.max() < _MARKED:
        found = np.flatnonzero(counts)
        most = found[np.argsort(-counts[found], kind="stable")][:_TOLD_LEVELS]
        more = f" and {len(found) - len(most)} more" if len(found) > len(most) else ""
        raise ImageError(
            "the mask has levels that are neither black nor white",
            path=path,
            expected=_EXPECTED,
            found="the levels " + ", ".join(map(str, sorted(most))) + more,
            hint="Make what is to be marked white, and all else black",
        )
    return levels
