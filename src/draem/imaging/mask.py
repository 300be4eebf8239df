"""Masks from files: of defects, and of the region of interest. Both are read alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.errors import ImageError
from draem.imaging.decode import decode_alpha, decode_image, decode_mask

_MARKED = 128
_NOISE = 16
"""Levels up to this one come from lossy compression, and mean black."""
_ALIKE = 2
"""Levels of one area differ by so much, if they went through lossy compression."""
_FEW_LEVELS = 8
"""A picture of more levels went through lossy compression, or has soft edges."""
_NEAR = 5
"""Side of the square around a marked pixel that soft edges of few levels stay within."""
_COLOUR = 64
"""Channels of white, as lossy compression leaves it, differ by less."""
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
        ImageError: The file cannot be read, is transparent where it is white, has colours on white,
            or areas that are neither black nor white; their levels are listed.
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
    if (levels >= _MARKED).all():
        _refuse_colours_on_white(path)
    if 0 < levels.max() < _MARKED or _has_grey_areas(levels):
        found, counts = np.unique(levels, return_counts=True)
        most = found[np.argsort(-counts, kind="stable")][:_TOLD_LEVELS]
        more = f" and {len(found) - len(most)} more" if len(found) > len(most) else ""
        raise ImageError(
            "the mask has levels that are neither black nor white",
            path=path,
            expected=_EXPECTED,
            found="the levels " + ", ".join(map(str, sorted(most))) + more,
            hint="Make what is to be marked white, and all else black",
        )
    return levels


def read_masks(paths: Sequence[str | Path], *, numbered: bool = False) -> NDArray[np.uint8]:
    """Read all masks of one image: what any of them marks is marked.

    Args:
        paths: At least one, of pictures of one size.
        numbered: Whether pixels hold the number of a kind of defect: all above 0 are marked.

    Returns:
        Grey levels, (height, width), uint8, 0 to 255.

    Raises:
        ImageError: As in `read_mask`.
    """
    parts = [_numbered(path) if numbered else read_mask(path) for path in paths]
    return np.maximum.reduce(parts)


def is_marked(levels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels of a mask are marked, of its levels as `read_mask` gives them."""
    return levels >= _MARKED


def _numbered(path: str | Path) -> NDArray[np.uint8]:
    return np.where(decode_mask(path) > 0, 255, 0).astype(np.uint8)


def _has_grey_areas(levels: NDArray[np.uint8]) -> bool:
    """Whether something is neither black, nor white, nor the soft edge or noise of white.

    It is an area of one level, at least 3x3 pixels; or, in a picture of few levels, as numbered
    kinds of defects have them, it is away from all that is white, or darker than noise can be.
    """
    grey = (levels > _NOISE) & (levels < _MARKED)
    square = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(levels, square) - cv2.erode(levels, square)
    if (grey & (spread <= _ALIKE)).any():
        return True
    if len(np.unique(levels)) > _FEW_LEVELS:
        return False
    marked = (levels >= _MARKED).astype(np.uint8)
    near = cv2.dilate(marked, np.ones((_NEAR, _NEAR), np.uint8))
    if (grey & (near == 0)).any():
        return True
    dark = (levels > 0) & (levels <= _NOISE) & (spread == 0)
    return bool(dark.any() and (levels == 0).any())


def _refuse_colours_on_white(path: str | Path) -> None:
    """Refuse a picture in which nothing is dark but not all is white."""
    pixels = decode_image(path).reshape(-1, 3)
    lowest, highest = pixels.min(axis=0), pixels.max(axis=0)
    if (highest - lowest > _COLOUR).any():
        raise ImageError(
            "the mask has no black, but several colours",
            path=path,
            expected=_EXPECTED,
            found=f"colours from {tuple(lowest.tolist())} to {tuple(highest.tolist())}",
            hint="Make what is to be marked white, and all else black",
        )
