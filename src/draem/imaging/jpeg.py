"""What Pillow does not report of a JPEG file: missing data, and scans without end.

libjpeg fills what is missing with grey and goes on. It does so when it meets the end marker too
early. A file without that marker makes it wait for more data instead, and Pillow reports that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_SCANS = 100
"""A progressive picture has about ten; each is a pass over the whole picture."""

START = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
SEQUENTIAL = (0xC0, 0xC1)
"""Huffman coding that is not progressive."""
_SCAN, _END, _LONE, _INTERVAL = 0xDA, 0xD9, 0x01, 0xDD
_BETWEEN_SCANS = (0xC4, 0xCC, 0xDB, _INTERVAL, _SCAN)
"""Tables, restart intervals and the next scan. What else follows a scan, or these if no scan comes
after them, has come up in its midst: the decoder takes it for the scan's end and fills the rest."""
_USELESS = (*range(0x02, 0xC0), 0xC8, *range(0xF0, 0xFE))
"""Reserved, or for extensions that nobody has made."""

# The decoder looks up to eight bytes ahead.
_AHEAD = bytes(8)


@dataclass(frozen=True, slots=True)
class JpegLayout:
    """How a JPEG file is made up.

    Attributes:
        frame: Marker of the kind of coding; 0 if there is none.
        scans: Passes over the picture; counted up to one more than `MAX_SCANS`.
        end: Place of the end marker; None if the file has none.
        in_order: Whether restart markers follow each other without a gap, where the file says that
            there are some, and no marker is one that JPEG has no use for there.
    """

    frame: int
    scans: int
    end: int | None
    in_order: bool


def read_jpeg_layout(data: bytes) -> JpegLayout:
    """Walk from marker to marker, until the file ends or has too many scans."""
    frame = scans = 0
    in_order, restarts, last = True, False, 0
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = found.group(1)[0], found.end()
        if marker == _END:
            return JpegLayout(frame, scans, found.start(), in_order and last in (0, _SCAN))
        in_order &= marker in _BETWEEN_SCANS if scans else marker not in _USELESS
        if marker == _LONE or marker in _RESTARTS:
            continue
        if marker in _FRAMES:
            frame = marker
        if marker == _INTERVAL:
            restarts = data[place + 2 : place + 4] != bytes(2)
        last = marker if scans or marker == _SCAN else 0
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
        if marker == _SCAN:
            scans += 1
            place, ordered = _after_scan(data, place, restarts)
            in_order &= ordered
            if scans > MAX_SCANS:
                break
    return JpegLayout(frame, scans, None, in_order)


def starving(data: bytes, layout: JpegLayout) -> bytes:
    """The file as bytes that Pillow refuses to decode if data are missing, where that can be had.

    It can for Huffman coding in one scan, which is what cameras write. Other kinds of coding need
    the end marker.
    """
    if layout.end is None or layout.scans != 1 or layout.frame not in SEQUENTIAL:
        return data
    return data[: layout.end] + _AHEAD


def _after_scan(data: bytes, place: int, restarts: bool) -> tuple[int, bool]:
    """Where the first marker after a scan is, and whether its restart markers were in order."""
    following, in_order = _RESTARTS[0], True
    for found in _MARKER.finditer(data, place):
        marker = found.group(1)[0]
        if marker not in _RESTARTS:
            return found.start(), in_order
        in_order &= restarts and marker == following
        following = _RESTARTS[(following - _RESTARTS[0] + 1) % len(_RESTARTS)]
    return len(data), in_order
