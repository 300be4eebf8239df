"""The cache of decoded images: when they go to the disk, where to, and how they come back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from draem._version import __version__
from draem.datasets.decoded import available_memory, decode_each, fingerprint
from draem.datasets.rows import ImageRows
from draem.datasets.store import HINT, PixelStore
from draem.datasets.threads import in_threads
from draem.errors import OutputError
from draem.files import explained_output, make_folder, write_text
from draem.imaging.decode import DECODER_VERSION

CacheMode = Literal["auto", "always", "never"]
Progress = Callable[[str, int, int], None]

SHARE_OF_MEMORY = 0.25
"""Images that would take more of the free memory than this are kept on the disk by `auto`."""
_COMMIT_SECONDS = 2.0
_THREADS = min(8, os.cpu_count() or 1)
_BLOCK = 2**20
_FINGERPRINTS = "fingerprints.json"


@dataclass(frozen=True, slots=True)
class Cache:
    """Whether and where decoded images are kept on the disk.

    Attributes:
        mode: `auto` where they would fill much of the memory, `always` or `never`.
        folder: The folder of all caches; `default_folder()` where left out.
        processes: How many of them would each hold the images in memory.
    """

    mode: CacheMode = "auto"
    folder: Path | None = None
    processes: int = 1

    def takes(self, size: int) -> bool:
        """Whether images of so many bytes go to the disk."""
        if self.mode != "auto":
            return self.mode == "always"
        memory = available_memory()
        return memory is not None and size * self.processes > SHARE_OF_MEMORY * memory


@dataclass(frozen=True, slots=True)
class Pixels:
    """What becomes of each image file.

    Attributes:
        size: Height and width of what is kept, in pixels.
        counts: For each file, how many pictures of that size it becomes.
        settings: Everything beside the file and the size that decides their pixels.
        prepare: Makes them, (count, height, width, 3), from a file's place in the order and its
            (height, width, 3) pixels; called in threads.
    """

    size: tuple[int, int]
    counts: Sequence[int]
    settings: Mapping[str, str | int]
    prepare: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]

    @property
    def nbytes(self) -> int:
        """Bytes of all pictures."""
        return sum(self.counts) * self.size[0] * self.size[1] * 3


def default_folder() -> Path:
    """Where caches lie unless the user says otherwise: DRAEM_CACHE, or the system's place.

    Raises:
        OutputError: The user has no home.
    """
    try:
        return _system_folder()
    except RuntimeError as error:
        raise OutputError("the user has no home folder for the cache", hint=HINT) from error


def _system_folder() -> Path:
    stated = os.environ.get("DRAEM_CACHE")
    if stated:
        return Path(stated)
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "draem"


def cached_images(
    paths: Sequence[Path], data: Path, pixels: Pixels, cache: Cache, progress: Progress
) -> ImageRows:
    """Images from the cache, after decoding those that it does not hold yet.

    An image is found by a hash of its file's content and of all that decides its pixels, so a file
    that changes is decoded anew, and no other. Images decoded before an interruption are kept.

    Args:
        paths: The files.
        data: What the user named; each such folder has a cache of its own, easy to delete.
        pixels: What becomes of them.
        cache: Where they are kept.
        progress: Called with (what is done, files done, files in all).

    Returns:
        The pictures of all files in order, mapped from the disk.

    Raises:
        DatasetError: Some images cannot be read; all of them are listed.
        OutputError: There is too little room on the disk, or it may not be written.
    """
    settings = _settings(pixels)
    store = PixelStore(_store_folder(data, settings, pixels.size, cache), pixels.size)
    keys = _keys(paths, settings, progress)
    if not store.is_checked() or set(keys) - store.places().keys():
        with _alone(store, progress), explained_output(store.folder, HINT):
            _complete(store, paths, keys, pixels, data, progress)
    places = store.places()
    rows = [
        np.arange(places[key].first, places[key].first + places[key].slots, dtype=np.int64)
        for key in keys
    ]
    return ImageRows(store.mapped(), np.concatenate(rows), store.folder)


def kept_fingerprint(images: NDArray[np.uint8] | ImageRows) -> str:
    """`fingerprint`, which is worked out only once for images on the disk."""
    if not isinstance(images, ImageRows):
        return fingerprint(images)
    # The pixels of a slot never change, so rows stand for pixels.
    name = hashlib.sha256(images.rows.astype("<i8").tobytes()).hexdigest()
    file = images.folder / _FINGERPRINTS
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):
        known = dict(json.loads(file.read_text(encoding="utf-8")))
    if name not in known:
        known[name] = fingerprint(images)
        with suppress(OutputError):
            write_text(file, json.dumps(known, indent=1))
    return known[name]


def _settings(pixels: Pixels) -> dict[str, object]:
    return {
        "decoder": DECODER_VERSION,
        "pillow": PIL.__version__,
        "opencv": cv2.__version__,
        "size": list(pixels.size),
        **pixels.settings,
    }


def _store_folder(
    data: Path, settings: Mapping[str, object], size: tuple[int, int], cache: Cache
) -> Path:
    whole = data.resolve()
    # Names need not be Unicode.
    words = os.fsencode(whole) + json.dumps(settings, sort_keys=True).encode()
    digest = hashlib.sha256(words).hexdigest()[:12]
    name = f"{whole.name[:40] or 'images'}-{size[0]}x{size[1]}-{digest}"
    return (cache.folder or default_folder()) / name


def _keys(paths: Sequence[Path], settings: Mapping[str, object], progress: Progress) -> list[bytes]:
    start = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())

    def key(path: Path) -> bytes:
        digest = start.copy()
        # A file that cannot be read is listed with all others when it is decoded.
        with suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
        return digest.digest()

    keys = []
    with in_threads(key, paths, _THREADS) as found:
        for done, each in enumerate(found, start=1):
            keys.append(each)
            progress("Looking images up", done, len(paths))
    return keys


@contextmanager
def _alone(store: PixelStore, progress: Progress) -> Iterator[None]:
    """Be the only process that writes to a store; waits for another to finish."""
    from filelock import FileLock, Timeout

    make_folder(store.folder)
    lock = FileLock(store.folder / "lock")
    with explained_output(store.folder, HINT):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress("Waiting for another process that decodes these images", 0, 1)
            lock.acquire()
            progress("Waiting for another process that decodes these images", 1, 1)
    try:
        yield
    finally:
        lock.release()


def _complete(
    store: PixelStore,
    paths: Sequence[Path],
    keys: Sequence[bytes],
    pixels: Pixels,
    data: Path,
    progress: Progress,
) -> None:
    """Decode what the store lacks."""
    if not store.is_checked():
        store.repair(lambda done, total: progress("Checking the cache", done, total))
    known = store.places()
    if not known:
        (store.folder / _FINGERPRINTS).unlink(missing_ok=True)
    missing = [place for place, key in enumerate(keys) if key not in known]
    _check_room(store.folder, sum(pixels.counts[place] for place in missing), pixels.size)
    about = {"made_by": f"draem {__version__}", "images": str(data.resolve()), **_settings(pixels)}
    write_text(store.folder / "about.json", json.dumps(about, indent=1))
    before = len(keys) - len(missing)
    writer = store.writer()
    committed = time.monotonic()

    def take(number: int, image: NDArray[np.uint8]) -> None:
        place = missing[number]
        writer.add(keys[place], pixels.prepare(place, image))

    def advance(done: int, _: int) -> None:
        nonlocal committed
        if time.monotonic() - committed > _COMMIT_SECONDS:
            writer.commit()
            committed = time.monotonic()
        progress("Decoding images into the cache", before + done, len(keys))

    try:
        decode_each([paths[place] for place in missing], take, advance)
        writer.commit()
    finally:
        writer.close()
        # What is in the journal by now has been checked or written by this process alone.
        with suppress(OutputError):
            store.set_checked()


def _check_room(folder: Path, count: int, size: tuple[int, int]) -> None:
    wanted, free = count * size[0] * size[1] * 3, shutil.disk_usage(folder).free
    if wanted > free:
        raise OutputError(
            "the decoded images do not fit on this disk",
            path=folder,
            expected=f"{wanted / 1e9:.1f} GB of free room",
            found=f"{free / 1e9:.1f} GB",
            hint=HINT,
        )
