"""Decoded images in one file, each found by what its own file holds.

A folder with two files: `pixels`, in which equal slots follow each other, and `journal`, with a
line of fixed length for each image. A line is written only once its pixels are on the disk, so a
crash at any moment costs the images since the last lines and nothing else. Both files only ever
grow: what another process has mapped stays as it is.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from draem.datasets.threads import in_threads
from draem.errors import OutputError
from draem.files import explained_output, write_bytes, write_text

_LINE = struct.Struct("<32sqqI")  # key, first slot, slots, CRC-32 of the pixels
_SUM = struct.Struct("<I")  # CRC-32 of the line itself, which a crash can cut
_LENGTH = _LINE.size + _SUM.size
_THREADS = min(8, os.cpu_count() or 1)
_SPOILT = bytes(32)
HINT = "Choose a folder that can be written and has room with --cache-dir, or --cache never"


class Place(NamedTuple):
    """Where an image lies.

    Attributes:
        first: Its first slot.
        slots: How many slots it takes; more than one where it was cut into tiles.
        checksum: CRC-32 of its pixels.
    """

    first: int
    slots: int
    checksum: int


class PixelStore:
    """The pixels of many images of one size, kept on the disk.

    Args:
        folder: Where; need not exist.
        size: Height and width of a slot in pixels.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.folder = folder
        self.pixels = folder / "pixels"
        self.journal = folder / "journal"
        self._checked = folder / "checked.json"
        self._size = size
        self._slot = size[0] * size[1] * 3

    def places(self) -> dict[bytes, Place]:
        """Where images lie, by their keys, as far as the journal and the file's length tell."""
        slots = self.slots()
        return {
            key: place
            for key, place in self._lines()
            if key != _SPOILT and place.first + place.slots <= slots
        }

    def slots(self) -> int:
        """How many whole slots the file has."""
        return self.pixels.stat().st_size // self._slot if self.pixels.is_file() else 0

    def is_checked(self) -> bool:
        """Whether the pixels are untouched since they were written or last checked."""
        try:
            return bool(json.loads(self._checked.read_text(encoding="utf-8")) == self._state())
        except (OSError, ValueError):
            return False

    def set_checked(self) -> None:
        """Remember that the pixels are those that the journal tells of."""
        write_text(self._checked, json.dumps(self._state()))

    def mapped(self) -> NDArray[np.uint8]:
        """All slots, (slots, height, width, 3), read from the disk where they are looked at."""
        shape = (self.slots(), *self._size, 3)
        # Only a read-only mapping may be larger than the machine's memory.
        return np.asarray(np.memmap(self.pixels, np.uint8, "r", shape=shape))

    def damaged(
        self,
        places: Mapping[bytes, Place],
        progress: Callable[[int, int], None] | None = None,
    ) -> set[bytes]:
        """Keys of the images whose pixels are no longer those that were written.

        Args:
            places: Where to look.
            progress: Called after each image with the number done and the number of all.
        """
        if not places:
            return set()
        pixels = self.mapped()

        def is_whole(place: Place) -> bool:
            kept = pixels[place.first : place.first + place.slots]
            return zlib.crc32(kept.data) == place.checksum

        bad = set()
        with in_threads(is_whole, places.values(), _THREADS) as checks:
            for done, (key, whole) in enumerate(zip(places, checks, strict=True), start=1):
                if not whole:
                    bad.add(key)
                if progress is not None:
                    progress(done, len(places))
        return bad

    def repair(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Strike images from the journal whose pixels are not those that were written.

        Their slots stay taken: another process may have them mapped.

        Raises:
            OutputError: The journal cannot be written.
        """
        places = self.places()
        whole = places.keys() - self.damaged(places, progress)
        lines = [
            _line(key if key in whole and places[key] == place else _SPOILT, place)
            for key, place in self._lines()
        ]
        write_bytes(self.journal, b"".join(lines))

    def writer(self) -> PixelWriter:
        """What adds images; one at a time for each store, over all processes.

        Raises:
            OutputError: The files cannot be written.
        """
        ends = [place.first + place.slots for _, place in self._lines()]
        return PixelWriter(self, max(ends, default=0), self._slot)

    def _state(self) -> dict[str, int]:
        status = self.pixels.stat()
        return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns}

    def _lines(self) -> Iterable[tuple[bytes, Place]]:
        content = self.journal.read_bytes() if self.journal.is_file() else b""
        for start in range(0, len(content) - _LENGTH + 1, _LENGTH):
            line = content[start : start + _LINE.size]
            (told,) = _SUM.unpack_from(content, start + _LINE.size)
            if zlib.crc32(line) == told:
                key, *place = _LINE.unpack(line)
                yield key, Place(*place)


class PixelWriter:
    """Adds images to a store; `add` from any thread, the rest from one.

    Args:
        store: Where to.
        first: The first slot that is free.
        slot: Bytes of a slot.
    """

    def __init__(self, store: PixelStore, first: int, slot: int) -> None:
        self._store, self._next, self._slot = store, first, slot
        self._lock = threading.Lock()
        self._pending: list[tuple[bytes, Place]] = []
        with explained_output(store.folder, HINT):
            # Unbuffered: what a full disk refused must not come back with the next flush.
            self._pixels = _opened(store.pixels, buffering=0)
            # Part of a line, left by a crash, would shift all that follow.
            self._journal = _opened(store.journal)
            end = self._journal.seek(0, os.SEEK_END)
            self._journal.truncate(end - end % _LENGTH)
            self._journal.seek(0, os.SEEK_END)

    def add(self, key: bytes, images: NDArray[np.uint8]) -> None:
        """Write an image's pixels; they count once `commit` has been called.

        Args:
            key: 32 bytes to find it by.
            images: (count, height, width, 3).

        Raises:
            OutputError: The disk is full.
        """
        pixels = np.ascontiguousarray(images)
        checksum = zlib.crc32(pixels.data)
        with self._lock, explained_output(self._store.pixels, HINT):
            place = Place(self._next, len(pixels), checksum)
            self._pixels.seek(place.first * self._slot)
            _write_all(self._pixels, pixels)
            self._next += place.slots
            self._pending.append((key, place))

    def commit(self) -> None:
        """See to it that what was added outlasts a crash.

        Raises:
            OutputError: The disk is full.
        """
        with self._lock, explained_output(self._store.folder, HINT):
            if not self._pending:
                return
            os.fsync(self._pixels.fileno())
            for key, place in self._pending:
                self._journal.write(_line(key, place))
            self._journal.flush()
            os.fsync(self._journal.fileno())
            self._pending.clear()

    def close(self) -> None:
        """Commit and close; keeps quiet about a disk that is full."""
        with suppress(OutputError):
            self.commit()
        for file in (self._pixels, self._journal):
            with suppress(OSError):
                file.close()


def _opened(path: Path, buffering: int = -1) -> BinaryIO:
    path.touch()
    return path.open("r+b", buffering)


def _write_all(file: BinaryIO, pixels: NDArray[np.uint8]) -> None:
    """Unbuffered files may take a part at a time."""
    left = pixels.data.cast("B")
    while left:
        left = left[file.write(left) :]


def _line(key: bytes, place: Place) -> bytes:
    line = _LINE.pack(key, *place)
    return line + _SUM.pack(zlib.crc32(line))
