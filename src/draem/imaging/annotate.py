"""Marks on pictures: boxes and contours round regions, and a plate with words in a corner."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_INK = (255, 255, 255)
_DARK = (20, 20, 20)
_MARGIN_SHARE = 1 / 400
_LINE_SHARE = 1 / 1000
_WIDEST_LINE = 12
_TEXT_SHARE = 1 / 40
_LEAST_SCALE = 0.4
_LARGEST_PLATE = 1 / 8
"""Of the picture: a larger plate would hide too much and is left out."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22
"""Of a capital at scale 1, in pixels."""

Box = tuple[int, int, int, int]
Contour = Sequence[tuple[float, float]]


def annotate_regions(
    picture: NDArray[np.uint8], boxes: Sequence[Box], contours: Sequence[Contour]
) -> NDArray[np.uint8]:
    """Draw a white line with a dark rim round boxes, and a thin white one along contours.

    Lines are outside every contour, so that they hide no part of any region. Boxes keep a margin
    that grows with the picture, so that a small region is found in a large picture. Their line is
    between a thousandth of the picture, round small regions, and twice that, at most 12 pixels.
    What would be beyond the picture's edge is left out.

    Args:
        picture: RGB pixels, (H, W, 3), uint8; left as they are.
        boxes: x, y, width and height of each region.
        contours: Corners (x, y) of each region; the line runs between pixels, and (0, 0) is the top
            left corner of the top left pixel.

    Returns:
        RGB pixels, (H, W, 3), uint8.
    """
    marked = picture.copy()
    for box in boxes:
        _draw_box(marked, box)
    for box, contour in zip(boxes, contours, strict=True):
        line = max(1, min(round(max(picture.shape[:2]) * _LINE_SHARE / 2), max(box[2:]) // 4))
        window, inside = _filled(picture.shape, box, contour, line)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * line + 1, 2 * line + 1))
        marked[window][cv2.dilate(inside, disc) > inside] = _INK
    for box, contour in zip(boxes, contours, strict=True):
        window, inside = _filled(picture.shape, box, contour)
        np.copyto(marked[window], picture[window], where=inside[..., None] > 0)
    return marked


def _filled(
    shape: tuple[int, ...], box: Box, contour: Contour, room: int = 0
) -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
    """The part of a picture around a box, and which of its pixels a contour encloses."""
    x, y, width, height = box
    left, top = max(0, x - room), max(0, y - room)
    right, bottom = min(shape[1], x + width + room), min(shape[0], y + height + room)
    # On the grid of the pixels' corners a pixel is inside if all four of its corners are.
    grid = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    corners = np.rint(np.subtract(contour, (left, top))).astype(np.int32)
    cv2.fillPoly(grid, [corners], (1,))
    inside = cv2.erode(grid, np.ones((2, 2), np.uint8), anchor=(0, 0))[:-1, :-1]
    return (slice(top, bottom), slice(left, right)), np.asarray(inside, np.uint8)


def _draw_box(picture: NDArray[np.uint8], box: Box) -> None:
    x, y, width, height = box
    longest = max(picture.shape[:2])
    line = round(
        min(max(longest * _LINE_SHARE, max(width, height) / 20), 2 * longest * _LINE_SHARE)
    )
    line = min(max(line, 1), _WIDEST_LINE)
    margin = round(longest * _MARGIN_SHARE)
    start, end = (x - margin, y - margin), (x + width + margin, y + height + margin)
    _frame(picture, start, end, line + max(1, line // 3), _DARK)
    _frame(picture, start, end, line, _INK)


def _frame(
    picture: NDArray[np.uint8],
    start: tuple[int, int],
    end: tuple[int, int],
    line: int,
    color: tuple[int, int, int],
) -> None:
    """Fill what is at most a line's width outside the rectangle from start to end, in place."""
    (left, top), (right, bottom) = start, end
    rows, columns = _span(top - line, bottom + line), _span(left - line, right + line)
    picture[_span(top - line, top), columns] = color
    picture[_span(bottom, bottom + line), columns] = color
    picture[rows, _span(left - line, left)] = color
    picture[rows, _span(right, right + line)] = color


def _span(start: int, end: int) -> slice:
    return slice(max(0, start), max(0, end))


def draw_plate(picture: NDArray[np.uint8], text: str, avoid: Sequence[Box]) -> None:
    """Write a line of ASCII text on a dark plate in a corner, in place.

    Nothing is written on a picture so small that the plate would hide more than an eighth of it.

    Args:
        picture: RGB pixels, (H, W, 3), uint8.
        text: What to write.
        avoid: x, y, width and height of boxes; of the four corners the plate takes the one where it
            hides least of them, the top left one rather than another.
    """
    height, width = picture.shape[:2]
    (natural, _), _ = cv2.getTextSize(text, _FONT, 1, 1)
    scale = min(min(height, width) * _TEXT_SHARE / _FONT_HEIGHT, 0.9 * width / natural)
    scale = max(_LEAST_SCALE, scale)
    stroke = max(1, round(2 * scale))
    (wide, high), below = cv2.getTextSize(text, _FONT, scale, stroke)
    room = max(2, high // 3)
    down, across = high + below + 2 * room, wide + 2 * room
    if across > width or down * across > _LARGEST_PLATE * height * width:
        return
    corners = [(x, y) for y in (0, height - down) for x in (0, width - across)]
    x, y = min(corners, key=lambda at: sum(_shared((*at, across, down), box) for box in avoid))
    picture[y : y + down, x : x + across] = _DARK
    foot = (x + room, y + room + high)
    cv2.putText(picture, text, foot, _FONT, scale, _INK, stroke, cv2.LINE_AA)


def _shared(one: Box, other: Box) -> int:
    """How many pixels two boxes share."""
    sides = (
        min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis])
        for axis in (0, 1)
    )
    return math.prod(max(0, side) for side in sides)
