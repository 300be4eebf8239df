"""Atomic writing: a crash leaves the old file or the new one, never half of one.

A killed process leaves its temporary files behind. The next process that writes into the folder
deletes them: the system's locks tell them from files that are being written.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from draem.errors import OutputError

if sys.platform != "win32":
    import fcntl

_LOCK = ".draem.lock"
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp", re.DOTALL)
_ABANDONED_AFTER = 86_400
"""Seconds after which a temporary file is deleted if the system has no locks to ask."""


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
        OutputError: The folder is missing or cannot be written to, or the target is a folder, a
            device or a link.
    """
    with explained_output(target):
        temporary, held = _new_next_to(target)
        os.close(held)
        temporary.unlink()


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path next to `target`; on success it replaces the target.

    Raises:
        OutputError: The disk is full, the folder is missing or cannot be written to, or the target
            is a folder, a device or a link.
    """
    with explained_output(target):
        temporary, held = _new_next_to(target)
        try:
            if target.exists():
                shutil.copymode(target, temporary)
            yield temporary
            # Without this a power cut could leave the new name on an empty file.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            if sys.platform == "win32":
                os.close(held)  # no open file can be renamed there
                held = -1
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
            if held >= 0:
                os.close(held)


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Let no other process or thread that asks for the same lock write into a folder meanwhile.

    The system frees the lock of a process that is killed.

    Args:
        folder: Made if it is missing; deleted again if nothing is written into it.

    Raises:
        OutputError: Another has the lock, or the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    new = not Path(folder).exists()
    path = make_folder(folder) / _LOCK
    lock = FileLock(path, timeout=0)
    try:
        with explained_output(path.parent):
            try:
                lock.acquire()
            except Timeout as error:
                raise OutputError(
                    "another process is writing into this folder",
                    path=path.parent,
                    hint="Wait until it has finished, or name another folder",
                ) from error
        yield
    finally:
        if lock.is_locked:
            # While it is locked no other process can have made a new file of this name.
            with contextlib.suppress(OSError):
                path.unlink()
                if new:
                    path.parent.rmdir()
            lock.release()


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for temporary files; if the process is killed, the next one deletes it."""
    place = Path(tempfile.gettempdir())
    delete_abandoned(place)
    folder = place / f".draem.{os.urandom(8).hex()}.tmp"
    with explained_output(folder):
        folder.mkdir(mode=0o700)
    with held_open(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def refuse_link(path: Path) -> None:
    """Refuse to write through a link, which would change a file in another place.

    Raises:
        OutputError: The path is a link.
    """
    if path.is_symlink():
        raise OutputError(
            "is a link; nothing is written through links",
            path=path,
            found=f"a link to {path.readlink()}",
            hint="Delete the link, or name what it leads to",
        )


def delete_abandoned(folder: Path, names: re.Pattern[str] = _TEMPORARY) -> None:
    """Delete temporary files and folders of processes that were killed.

    Args:
        folder: Where to look, not in its folders.
        names: What they are called.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if names.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _delete_if_abandoned(Path(entry.path))


@contextlib.contextmanager
def held_open(path: Path) -> Iterator[None]:
    """Let no process take a file for abandoned meanwhile."""
    if sys.platform == "win32":  # where no new file is deleted, nor can an open one be renamed
        yield
        return
    held = os.open(path, os.O_RDONLY)
    try:
        _lock(held)
        yield
    finally:
        os.close(held)


def _new_next_to(target: Path) -> tuple[Path, int]:
    """Make an empty file under a new name next to `target`; with a descriptor that is locked."""
    refuse_link(target)
    if target.exists() and not target.is_file():
        raise OutputError("is a folder or a device, which cannot be replaced", path=target)
    _delete_abandoned_once(target.parent.absolute())
    while True:
        # 50 characters are 200 bytes at most, clear of the limit of 255 a name.
        temporary = target.parent / f".{target.name[:50]}.{os.urandom(8).hex()}.tmp"
        held = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Another process may have taken it for abandoned before it was locked.
        if _lock(held) and (sys.platform == "win32" or os.fstat(held).st_nlink):
            return temporary, held
        os.close(held)


@functools.cache
def _delete_abandoned_once(folder: Path) -> None:
    """Delete them when this process first writes into the folder; a folder may hold many files."""
    delete_abandoned(folder)


def _delete_if_abandoned(path: Path) -> None:
    if sys.platform == "win32":
        if path.is_file() and time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
            path.unlink()
        return
    held = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not _lock(held, otherwise=False):
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(held)


def _lock(descriptor: int, *, otherwise: bool = True) -> bool:
    """Whether a file could be locked until it is closed; `otherwise` if there are no locks."""
    if sys.platform == "win32":
        return otherwise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return otherwise
    return True


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
