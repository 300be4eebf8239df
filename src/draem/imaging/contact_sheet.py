"""Contact sheets: rows of pictures with titles, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_PAPER = (250, 250, 248)
_FRAME = (226, 226, 222)
_INK = (38, 40, 46)
_FAINT_INK = (104, 108, 118)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class _Grid(NamedTuple):
    """Where things stand on the sheet, in pixels."""

    left: int
    top: int
    cell: int
    gap: int
    width: int
    height: int

    def corner(self, row: int, column: int) -> tuple[int, int]:
        step = self.cell + self.gap
        return self.left + column * step, self.top + row * step


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    title: str | None = None,
    cell: int = 192,
) -> NDArray[np.uint8]:
    """Arrange pictures in rows under column titles, on light paper.

    Each picture is scaled into its cell with its shape kept: pixels are averaged when shrinking
    and repeated when enlarging. Titles too long for their place end in an ellipsis.

    Args:
        rows: Pictures, each RGB (H, W, 3) or grey (H, W), uint8. Rows may differ in length.
        column_titles: One title a column, above it.
        row_titles: One title a row, to its left.
        title: A title above everything.
        cell: The side of a cell, in pixels.

    Returns:
        RGB pixels, (height, width, 3), uint8.
    """
    font_size = max(11, cell // 13)
    font, large = _font(font_size), _font(round(font_size * 1.4))
    columns = max([len(column_titles), *(len(row) for row in rows)])
    grid = _grid(len(rows), columns, cell, font_size, bool(row_titles), bool(title))

    page = Image.new("RGB", (grid.width, grid.height), _PAPER)
    pen = ImageDraw.Draw(page)
    margin = 2 * grid.gap
    if title:
        text = _shortened(title, large, grid.width - 2 * margin)
        pen.text((margin, margin), text, font=large, fill=_INK, anchor="lt")
    for column, text in enumerate(column_titles):
        x, y = grid.corner(0, column)
        place = (x + cell // 2, y - grid.gap)
        pen.text(place, _shortened(text, font, cell), font=font, fill=_INK, anchor="md")
    for row, text in enumerate(row_titles or ()):
        x, y = grid.corner(row, 0)
        place = (x - 2 * grid.gap, y + cell // 2)
        room = grid.left - margin - 2 * grid.gap
        pen.text(place, _shortened(text, font, room), font=font, fill=_FAINT_INK, anchor="rm")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            _place(page, pen, picture, grid.corner(row, column), cell)
    return np.array(page, dtype=np.uint8)


def _grid(
    rows: int, columns: int, cell: int, font_size: int, has_row_titles: bool, has_title: bool
) -> _Grid:
    gap = max(4, cell // 24)
    margin = 2 * gap
    left = margin + (round(font_size * 7.5) + 2 * gap if has_row_titles else 0)
    top = margin + (round(font_size * 1.4) + 2 * gap if has_title else 0) + font_size + 2 * gap
    width = left + columns * (cell + gap) - gap + margin
    height = top + rows * (cell + gap) - gap + margin
    return _Grid(left, top, cell, gap, width, height)


def _place(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    picture: NDArray[np.uint8],
    corner: tuple[int, int],
    cell: int,
) -> None:
    fitted = _fitted(picture, cell)
    height, width = fitted.shape[:2]
    x, y = corner[0] + (cell - width) // 2, corner[1] + (cell - height) // 2
    page.paste(Image.fromarray(fitted).convert("RGB"), (x, y))
    pen.rectangle((x - 1, y - 1, x + width, y + height), outline=_FRAME)


def _fitted(picture: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    """Scale a picture so that its longer side is `cell` pixels."""
    height, width = picture.shape[:2]
    factor = cell / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    flag = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    fitted = cv2.resize(np.ascontiguousarray(picture), size, interpolation=flag)
    return np.asarray(fitted, dtype=np.uint8)


def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _shortened(text: str, font: _Font, room: int) -> str:
    """The text, or as much of it as `room` pixels take, with an ellipsis."""
    if font.getlength(text) <= room:
        return text
    for length in range(len(text) - 1, 0, -1):
        shorter = text[:length].rstrip() + "…"
        if font.getlength(shorter) <= room:
            return shorter
    return ""
