"""Which kinds of TIFF files draem decodes to the right pixels.

TIFF is a family of formats. Some of them Pillow decodes to other pixels without an error, and of
others it only says that it cannot identify the file. So the header is read first.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from draem.errors import ImageError
from draem.imaging.jpeg import MAX_SCANS, SEQUENTIAL, read_jpeg_layout
from draem.imaging.tiff_header import COLOURS, JPEG, NUMBERS, PACKINGS, TiffContent, named

_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
_DEPTHS = {0: (1, 2, 4, 8), 1: (1, 2, 4, 8, 12, 16), 2: (8, 16), 3: (1, 2, 4, 8), 5: (8,), 6: (8,)}
_READ = (1, 5, 7, 8, 32773, 32946, 50000)
_PREDICTABLE = (5, 8, 32946, 50000)
_SILENT = (2, 3, 4, 34925)
"""libtiff fills what is damaged with guesses or nothing, and reports success."""


def check_tiff_content(path: Path, content: TiffContent) -> None:
    """Refuse what draem does not decode to the right pixels.

    Raises:
        ImageError: It names what the file holds.
    """
    problem, hint = _unread_storage(content) or _unread_values(content) or ("", "")
    if problem:
        raise ImageError(
            f"is a TIFF that draem does not read: it holds {problem}",
            path=path,
            expected="one picture of unsigned grey, RGB, palette, CMYK or JPEG values, 8 or 16 "
            "bits a channel",
            found=str(content),
            hint=hint,
        )


def check_jpeg_parts(path: Path, content: TiffContent, file: IO[bytes]) -> None:
    """Refuse a TIFF of JPEG compression if one of its parts is no whole JPEG stream.

    libtiff leaves such a part empty or grey and reports success. The file is left at its start.

    Raises:
        ImageError: A part is damaged.
    """
    # Parts that share bytes could make a small file take hours.
    fits = sum(length for _, length in content.parts) <= path.stat().st_size
    if not fits or not all(_is_whole_jpeg(file, *part) for part in content.parts):
        raise ImageError(
            "is damaged or incomplete (a part of it is no whole JPEG stream)",
            path=path,
            hint="Copy or export it again",
        )
    file.seek(0)


def _is_whole_jpeg(file: IO[bytes], place: int, length: int) -> bool:
    file.seek(place)
    layout = read_jpeg_layout(file.read(length))
    # libtiff takes one scan of what is not progressive, fills the rest and reports success.
    most = 1 if layout.frame in SEQUENTIAL else MAX_SCANS
    return layout.end is not None and layout.in_order and 1 <= layout.scans <= most


def _unread_storage(content: TiffContent) -> tuple[str, str] | None:
    """The problem and its hint if a file of these pages and this compression is refused."""
    packing = named(PACKINGS, content.packing)
    if content.packing in _SILENT:
        return f"{packing} compression, in which damage goes unnoticed", "Convert it to PNG"
    if content.packing not in _READ:
        return f"{packing} compression", "Save it with LZW, deflate or no compression"
    if content.predicted and content.packing not in _PREDICTABLE:
        # Some readers add the differences up, others do not.
        return f"a predictor with {packing} compression", "Save it with LZW or deflate compression"
    if content.pages != 1:
        return f"{content.pages} pages", "Save each page as a file of its own"
    if content.reduced:
        return "a thumbnail or a mask as its first page", "Save the picture alone"
    return None


def _unread_values(content: TiffContent) -> tuple[str, str] | None:
    """The problem and its hint if a file of these values is refused."""
    colour, depths = named(COLOURS, content.photometric), sorted(set(content.bits))
    scale = "Convert it to 8 or 16 bits with one fixed scale for all images"
    if content.number != 1:
        kind = named(NUMBERS, content.number)
        return f"{kind} values, whose range is not known", scale
    if content.photometric not in _CHANNELS or not content.cmyk:
        kind = "inks other than CMYK" if content.photometric == 5 else f"{colour} values"
        return kind, "Convert it to RGB or grey"
    if content.photometric == 6 and (content.packing != JPEG or content.apart):
        return "YCbCr values without JPEG compression", "Convert it to RGB"
    if not _is_one_alpha(content):
        channels = len(content.bits)
        return f"{channels} channels of {colour}", "Keep the channels that show the part"
    if len(depths) > 1 or depths[0] not in _DEPTHS[content.photometric]:
        return f"{'-, '.join(map(str, depths))}-bit {colour} values", scale
    return None


def _is_one_alpha(content: TiffContent) -> bool:
    """Whether the channels are those of the colour and at most one of transparency."""
    extras = len(content.bits) - _CHANNELS[content.photometric]
    if extras == 0:
        return True
    kinds = content.extras or (0,)
    if extras != 1 or len(kinds) != 1:
        return False
    if content.photometric == 2:
        # Many writers leave the kind of an RGB picture's transparency unsaid. Pillow divides by it
        # after it has cut the values to 8 bits.
        return kinds[0] in (0, 2, 999) or (kinds[0] == 1 and content.bits[0] == 8)
    return content.photometric == 1 and content.bits[0] == 8 and kinds[0] in (1, 2)
