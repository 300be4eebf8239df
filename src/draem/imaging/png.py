"""The parts of a PNG file that its picture needs.

Pillow refuses a picture for the size of its text or colour profile, and does not check the
checksums of the pixels.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO

START = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 2**16

_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"eXIf")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
# Some programs keep the orientation of the picture there.
_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_NO_PIXELS = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))


def read_picture(file: IO[bytes], *, pixels: bool) -> bytes:
    """Read a PNG file with only its picture, its transparency and its orientation.

    Args:
        file: The file, at its start.
        pixels: Whether the data of the pixels are read too.

    Returns:
        A PNG file, cut short where the file is; what tells the orientation stands before the
        pixels.

    Raises:
        ValueError: A checksum of the pixels' data is wrong.
    """
    start = file.read(len(START))
    header: list[bytes] = []
    data: list[bytes] = []
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"IEND":
            return b"".join([start, *header, *(data or [_NO_PIXELS]), head, file.read(4)])
        if name == b"IDAT" and pixels:
            data.append(head + _checked(name, file.read(length + 4), length))
        elif name in _PICTURE or (name in _TEXT and length <= MAX_TEXT_BYTES):
            content = file.read(length + 4)
            if name in _PICTURE or content.startswith(_ORIENTATION):
                header.append(head + content)
        else:
            file.seek(length + 4, 1)
    return b"".join([start, *header, *(data or [_NO_PIXELS])])


def _checked(name: bytes, content: bytes, length: int) -> bytes:
    """The content of a chunk with its checksum; one that is cut short is left to the decoder."""
    stated = content[length:]
    if len(stated) == 4 and zlib.crc32(content[:length], zlib.crc32(name)) != int.from_bytes(
        stated, "big"
    ):
        raise ValueError("a checksum of the pixels is wrong")
    return content
