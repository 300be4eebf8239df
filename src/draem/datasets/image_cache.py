"""Decoded images on the disk: one `.npy` file per image file, named by a hash of its content.

A file appears whole or not at all, so a crash costs only the images that were being written, and
several processes may fill a cache at once: they write the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from draem.datasets.decoding import Preparation, decode_each
from draem.datasets.image_source import ImageSource
from draem.datasets.memory import available_memory
from draem.datasets.parallel import in_threads
from draem.errors import ImageError, OutputError
from draem.files import explained_output, make_folder, replacing
from draem.imaging.decode import DECODER_VERSION

CacheMode = Literal["auto", "always", "never"]
Progress = Callable[[str, int, int], None]

SHARE_OF_MEMORY = 0.25
"""`auto` stores images on the disk if they need more than this share of the free memory."""
HINT = "Choose a folder that can be written and has room with --cache-dir, or --cache never"


@dataclass(frozen=True, slots=True)
class Cache:
    """Whether and where decoded images are stored on the disk.

    Attributes:
        mode: `auto` if they would fill much of the memory, `always` or `never`.
        folder: The folder of all caches; `default_folder()` if omitted.
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


def default_folder() -> Path:
    """The folder of caches unless the user names one: DRAEM_CACHE, or the system's place.

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


def decode_to_files(
    paths: Sequence[Path], preparation: Preparation, cache: Cache, progress: Progress
) -> ImageSource:
    """Images from the cache, after decoding those that it does not hold yet.

    An image is found by a hash of its file's content and of all that decides its pixels, so a file
    that changes is decoded anew, and no other. Images decoded before an interruption are kept.

    Args:
        paths: Image files.
        preparation: What becomes of them.
        cache: Where they are stored.
        progress: Called with (what is done, files done, files in all).

    Raises:
        DatasetError: Some images cannot be read; all of them are listed.
        OutputError: There is too little room on the disk, or it cannot be written to.
    """
    settings = _settings(preparation)
    height, width = preparation.size
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = (cache.folder or default_folder()) / f"{height}x{width}-{digest}"
    files = [folder / name[:2] / f"{name}.npy" for name in _content_hashes(paths, progress)]
    missing = [
        place
        for place, (file, count) in enumerate(zip(files, preparation.counts, strict=True))
        if not _is_whole(file, (count, 3, height, width))
    ]
    if missing:
        make_folder(folder)
        _check_room(folder, sum(preparation.counts[place] for place in missing), preparation.size)
        _decode_missing(paths, files, missing, preparation, progress)
    rows = tuple(
        (file, row)
        for file, count in zip(files, preparation.counts, strict=True)
        for row in range(count)
    )
    return ImageSource(preparation.shape, None, rows, folder)


def _settings(preparation: Preparation) -> Mapping[str, object]:
    return {
        "decoder": DECODER_VERSION,
        "pillow": PIL.__version__,
        "opencv": cv2.__version__,
        "size": list(preparation.size),
        **preparation.settings,
    }


def _content_hash(path: Path) -> str:
    # A file that cannot be read is listed with all others when it is decoded.
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256().hexdigest()


def _content_hashes(paths: Sequence[Path], progress: Progress) -> list[str]:
    hashes = []
    with in_threads(_content_hash, paths) as found:
        for done, each in enumerate(found, start=1):
            hashes.append(each)
            progress("Looking images up", done, len(paths))
    return hashes


def _is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file has the header and the length of such an array; its pixels are not read."""
    header = _header(shape)
    try:
        with file.open("rb") as opened:
            found = opened.read(len(header))
        return found == header and file.stat().st_size == len(header) + int(np.prod(shape))
    except OSError:
        return False


def _header(shape: tuple[int, ...]) -> bytes:
    written = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(written, described)
    return written.getvalue()


def _decode_missing(
    paths: Sequence[Path],
    files: Sequence[Path],
    missing: Sequence[int],
    preparation: Preparation,
    progress: Progress,
) -> None:
    before = len(paths) - len(missing)

    def take(number: int, image: NDArray[np.uint8]) -> None:
        place = missing[number]
        # Pixels under the hash of another picture would be found for ever.
        if _content_hash(paths[place]) != files[place].stem:
            raise ImageError(
                "has changed while it was being read",
                path=paths[place],
                hint="Run the command again once nothing writes to it",
            )
        prepared = preparation.prepare(place, image).transpose(0, 3, 1, 2)
        make_folder(files[place].parent)
        written = _header(prepared.shape) + prepared.tobytes()
        with explained_output(files[place], HINT), replacing(files[place]) as temporary:
            temporary.write_bytes(written)

    def advance(done: int, _: int) -> None:
        progress("Decoding images into the cache", before + done, len(paths))

    decode_each([paths[place] for place in missing], take, advance)


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
