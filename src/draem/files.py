"""Atomic writing: a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from draem.errors import OutputError


def make_folder(path: str | Path) -> Path:
    """Make a folder and its missing parents.

    Raises:
        OutputError: The folder cannot be made.
    """
    folder = Path(path)
    with explained_output(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a whole file under a temporary name, then rename it.

    Raises:
        OutputError: The disk is full, the folder is missing or cannot be written to.
    """
    target = Path(path)
    with replacing(target) as temporary:
        temporary.write_bytes(data)
    return target


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file as UTF-8, whole or not at all.

    Bytes of file names that are not Unicode are written as escapes.

    Raises:
        OutputError: The disk is full, the folder is missing or cannot be written to.
    """
    return write_bytes(path, text.encode(errors="backslashreplace"))


def check_writable(target: Path) -> None:
    """Check before long work that its file can be written; an existing file is not changed.

    Raises:
        OutputError: The folder is missing or cannot be written to, or the target is a folder or a
            device.
    """
    with explained_output(target):
        _new_next_to(target).unlink()


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path next to `target`; on success it replaces the target.

    Raises:
        OutputError: The disk is full, the folder is missing or cannot be written to, or the target
            is a folder or a device.
    """
    with explained_output(target):
        temporary = _new_next_to(target)
        if target.exists():
            shutil.copymode(target, temporary)
        try:
            yield temporary
            # Without this a power cut could leave the new name on an empty file.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _new_next_to(target: Path) -> Path:
    """Make an empty file under a new name next to `target`."""
    if target.exists() and not target.is_file():
        raise OutputError("is a folder or a device, which cannot be replaced", path=target)
    # 50 characters are 200 bytes at most, clear of the limit of 255 a name.
    temporary = target.parent / f".{target.name[:50]}.{os.urandom(8).hex()}"
    temporary.touch(exist_ok=False)
    return temporary


@contextlib.contextmanager
def explained_output(
    path: Path, hint: str = "Choose a folder that can be written and has room"
) -> Iterator[None]:
    """Turn a failure to write into an error that names the file or folder.

    Args:
        path: What is written.
        hint: What to do about it.

    Raises:
        OutputError: The disk is full, or the place cannot be written to.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            path=path,
            hint=hint,
        ) from error
