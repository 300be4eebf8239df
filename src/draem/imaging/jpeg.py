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
_HUFFMAN_ONE_PASS = (0xC0, 0xC1)
_SCAN, _END, _LONE = 0xDA, 0xD9, 0x01

# The decoder looks up to eight bytes ahead.
_AHEAD = bytes(8)


@dataclass(frozen=True, slots=True)
class JpegLayout:
    """How a JPEG file is made up.

    Attributes:
        frame: Marker of the kind of coding; 0 if there is none.
        scans: Passes over the picture; counted up to one more than `MAX_SCANS`.
        end: Place of the end marker; None if the file has none.
        in_order: Whether restart markers follow each other without a gap, and no marker is one that
            JPEG has no use for.
    """

    frame: int
    scans: int
    end: int | None
    in_order: bool


def read_jpeg_layout(data: bytes) -> JpegLayout:
    """Walk from marker to marker, until the file ends or has too many scans."""
    frame = scans = 0
    in_order = True
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = found.group(1)[0], found.end()
        if marker == _END:
            return JpegLayout(frame, scans, found.start(), in_order)
        if marker == _LONE or marker in _RESTARTS:
            continue
        in_order &= marker >= _FRAMES[0]
        if marker in _FRAMES:
            frame = marker
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
        if marker == _SCAN:
            scans += 1
            place, ordered = _after_scan(data, place)
            in_order &= ordered
            if scans > MAX_SCANS:
                break
    return JpegLayout(frame, scans, None, in_order)


def starving(data: bytes, layout: JpegLayout) -> bytes:
    """The file as bytes that Pillow refuses to decode if data are missing, where that can be had.

    It can for Huffman coding in one scan, which is what cameras write. Other kinds of coding need
    the end marker.
    """
    if layout.end is None or layout.scans != 1 or layout.frame not in _HUFFMAN_ONE_PASS:
        return data
    return data[: layout.end] + _AHEAD


def _after_scan(data: bytes, place: int) -> tuple[int, bool]:
    """Where the first marker after a scan is, and whether its restart markers were in order."""
    following, in_order = _RESTARTS[0], True
    for found in _MARKER.finditer(data, place):
        marker = found.group(1)[0]
        if marker not in _RESTARTS:
            return found.start(), in_order
        in_order &= marker == following
        following = _RESTARTS[(following - _RESTARTS[0] + 1) % len(_RESTARTS)]
    return len(data), in_order
