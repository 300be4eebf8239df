"""What a TIFF file says that it holds."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from draem.errors import ImageError

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 258, 259, 262
_SAMPLES, _PLANAR, _PREDICTOR, _INK_SET, _EXTRA, _FORMAT = 277, 284, 317, 332, 338, 339

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG, _UNREAD_START = b"II+\0", b"MM\0+"
_REDUCED, _MASK = 1, 4
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS = 273, 279, 324, 325

JPEG = 7
_SHORT, _LONG = 3, 4
_MOST_PAGES, _MOST_TAGS = 10_000, 4096

COLOURS = {
    0: "white-is-zero grey",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICCLAB",
    10: "ITULAB",
    32803: "raw Bayer",
    34892: "raw linear",
}
NUMBERS = {
    1: "unsigned",
    2: "signed",
    3: "floating-point",
    4: "untyped",
    5: "complex signed",
    6: "complex floating-point",
}
PACKINGS = {
    1: "no",
    2: "CCITT",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    6: "old-style JPEG",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32809: "ThunderScan",
    32946: "deflate",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34676: "LogLuv",
    34677: "LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}


@dataclass(frozen=True, slots=True)
class TiffContent:
    """What the first page of a TIFF holds.

    Attributes:
        photometric: What the channels mean, by TIFF's number; so are the next two.
        number: Kind of number.
        packing: Compression.
        bits: Bits of each channel.
        extras: Kinds of the channels beyond those that `photometric` calls for.
        predicted: Whether the values are differences from their neighbours.
        apart: Whether each channel has a plane of its own.
        cmyk: Whether four inks are cyan, magenta, yellow and black.
        pages: Full pictures in the file, without thumbnails and masks.
        reduced: Whether the first page is a thumbnail or a mask.
        tile: Width and height of a tile in pixels; 0 if there are none.
        parts: Place and length of each strip or tile; read for JPEG compression alone.
    """

    photometric: int
    number: int
    packing: int
    bits: tuple[int, ...]
    extras: tuple[int, ...]
    predicted: bool
    apart: bool
    cmyk: bool
    pages: int
    reduced: bool
    tile: tuple[int, int]
    parts: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        depths = sorted(set(self.bits))
        depth = f"{depths[0]}-bit" if len(depths) == 1 else "-".join(map(str, self.bits)) + "-bit"
        count = len(self.bits)
        planes = " in separate planes" if self.apart and count > 1 else ""
        return (
            f"{count} channel{'s' * (count != 1)} of {depth} {named(NUMBERS, self.number)} "
            f"{named(COLOURS, self.photometric)} values{planes}, "
            f"{named(PACKINGS, self.packing)} compression, "
            f"{self.pages} page{'s' * (self.pages != 1)}"
        )


def read_tiff_content(path: Path, file: IO[bytes]) -> TiffContent | None:
    """Read what a TIFF holds, from its header; the file is left at its start.

    Args:
        path: The file's name, for messages.
        file: The file, at its start.

    Returns:
        None if the file is no TIFF.

    Raises:
        ImageError: The header is damaged, or of a kind that draem does not read.
    """
    start = file.read(4)
    file.seek(0)
    if start not in _STARTS:
        return None
    if start == _UNREAD_START:
        raise ImageError(
            "is a TIFF that draem does not read: it holds a big-endian BigTIFF",
            path=path,
            hint="Save it as little-endian or as a plain TIFF",
        )
    try:
        big, order = start == _BIG, "<" if start.startswith(b"II") else ">"
        content = _content(_first_directory(file, big), _kinds_of_pages(file, order, big))
    except (LookupError, TypeError, ValueError, struct.error) as error:
        raise _damaged(path) from error
    file.seek(0)
    return content


def bits_per_channel(image: Image.Image) -> int:
    """Bits of the first channel of an opened TIFF."""
    return _whole(image.tag_v2, _BITS, 1)[0] if isinstance(image, TiffImageFile) else 8


def _first_directory(file: IO[bytes], big: bool) -> ImageFileDirectory_v2:
    """The tags of the first page."""
    directory = ImageFileDirectory_v2(file.read(16 if big else 8))
    file.seek(directory.next)
    directory.load(file)
    return directory


def _kinds_of_pages(file: IO[bytes], order: str, big: bool) -> list[int]:
    """`_SUBFILE` of each page.

    Only this tag is read: pages may share one large tag, and thousands of them would take long.
    """
    number, entry, value = ("Q", "HHQI4x", 20) if big else ("I", "HHII", 12)
    file.seek(8 if big else 4)
    (place,) = _unpacked(file, order + number)
    kinds: list[int] = []
    seen: set[int] = set()
    while place and len(kinds) < _MOST_PAGES:
        if place in seen:
            raise ValueError("the pages of the file form a circle")
        seen.add(place)
        file.seek(place)
        (count,) = _unpacked(file, order + ("Q" if big else "H"))
        if count > _MOST_TAGS:
            raise ValueError("a page has too many tags")
        kind = 0
        for tag, form, _, content in struct.iter_unpack(order + entry, file.read(count * value)):
            if tag == _SUBFILE and form in (_SHORT, _LONG):
                kind = content >> 16 if form == _SHORT and order == ">" else content
        kinds.append(kind & (_REDUCED | _MASK))
        rest = file.read(8 if big else 4)
        # A file may end with its last page.
        place = (
            struct.unpack(order + number, rest)[0] if len(rest) == struct.calcsize(number) else 0
        )
    return kinds


def _unpacked(file: IO[bytes], form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _content(tags: ImageFileDirectory_v2, kinds: list[int]) -> TiffContent:
    packing = _whole(tags, _COMPRESSION, 1)[0]
    photometric = _whole(tags, _PHOTOMETRIC, 0)[0]
    channels = _whole(tags, _SAMPLES, 3 if packing == JPEG and photometric in (2, 6) else 1)[0]
    bits, numbers = _whole(tags, _BITS, 1), _whole(tags, _FORMAT, 1)
    if not 1 <= channels <= 2**16:
        raise ValueError("no such number of channels")
    bits = bits * channels if len(bits) == 1 else bits[:channels]
    if len(bits) != channels:
        raise ValueError("depths and channels differ in number")
    return TiffContent(
        photometric=photometric,
        number=max(numbers),
        packing=packing,
        bits=bits,
        extras=_whole(tags, _EXTRA),
        predicted=_whole(tags, _PREDICTOR, 1)[0] != 1,
        apart=_whole(tags, _PLANAR, 1)[0] == 2,
        cmyk=_whole(tags, _INK_SET, 1)[0] == 1,
        pages=sum(kind == 0 for kind in kinds) or 1,
        reduced=kinds[0] != 0,
        tile=(_whole(tags, _TILE_WIDTH, 0)[0], _whole(tags, _TILE_HEIGHT, 0)[0]),
        parts=_parts(tags) if packing == JPEG else (),
    )


def _parts(tags: ImageFileDirectory_v2) -> tuple[tuple[int, int], ...]:
    places = _whole(tags, _STRIPS) or _whole(tags, _TILES)
    lengths = _whole(tags, _STRIP_LENGTHS) or _whole(tags, _TILE_LENGTHS)
    return tuple(zip(places, lengths, strict=True))


def _whole(tags: ImageFileDirectory_v2, tag: int, *default: int) -> tuple[int, ...]:
    """A tag's whole numbers."""
    value: Any = tags.get(tag, default)
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, int) for each in values):
        raise ValueError(f"tag {tag} holds something else than whole numbers")
    return values


def named(names: dict[int, str], number: int) -> str:
    """The name of one of TIFF's numbers."""
    return names.get(number, f"unknown ({number})")


def _damaged(path: Path) -> ImageError:
    return ImageError(
        "is damaged or incomplete (its TIFF header makes no sense)",
        path=path,
        hint="Copy or export it again",
    )
