from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from draem.errors import OutputError
from draem.files import (
    check_writable,
    locked,
    make_folder,
    replacing,
    scratch_folder,
    write_bytes,
    write_text,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "a", b"\0\xff") == tmp_path / "a"
    assert write_text(str(tmp_path / "b"), "Maß\n") == tmp_path / "b"
    assert (tmp_path / "a").read_bytes() == b"\0\xff"
    assert (tmp_path / "b").read_bytes() == b"Ma\xc3\x9f\n"
    write_text(tmp_path / "b", "")
    assert (tmp_path / "b").read_bytes() == b""
    assert names_in(tmp_path) == ["a", "b"]


def test_the_name_of_a_file_that_is_not_unicode_can_be_written_about(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a", os.fsdecode(b"caf\xe9"))
    assert path.read_bytes() == rb"caf\udce9"


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a", "old")

    def write_half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("hal")
            assert target.read_text() == "old"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["a"]


def test_a_process_killed_in_the_middle_leaves_the_old_file(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    target = write_text(tmp_path / "a", "old")
    ended = run_python(
        "import os, sys, pathlib, draem.files as f\n"
        "with f.replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('hal')\n"
        "    os._exit(9)\n",
        target,
    )
    assert ended.returncode == 9
    assert target.read_text() == "old"


@posix
def test_whoever_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a", "old and long")
    with target.open("rb", buffering=0) as reader:
        assert reader.read(3) == b"old"
        write_text(target, "new")
        assert reader.read() == b" and long"
    assert target.read_text() == "new"


@posix
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        path = write_text(tmp_path / "a", "text")
        write_text(path, "again")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@posix
def test_what_takes_a_files_place_takes_its_permissions(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a", "text")
    path.chmod(0o660)
    write_text(path, "again")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_missing_folder_is_an_error_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "a"
    with (
        pytest.raises(OutputError, match="cannot be written") as raised,
        replacing(target),
    ):
        pytest.fail("the work was begun")
    assert raised.value.path == target
    assert not target.parent.exists()


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "kept")
    with pytest.raises(OutputError, match="Choose a folder"):
        write_text(tmp_path / "file" / "a", "text")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(OutputError, match="Choose a folder"):
            make_folder(folder)
    assert (tmp_path / "file").read_text() == "kept"


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert make_folder(str(folder)) == folder
    write_text(folder / "kept", "")
    assert make_folder(folder) == folder
    assert names_in(folder) == ["kept"]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="a folder or a device"):
        write_text(tmp_path / "folder", "text")
    assert names_in(tmp_path) == ["folder"]


def test_whether_a_file_can_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "kept")
    check_writable(tmp_path / "a")
    check_writable(tmp_path / "b")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "folder", tmp_path / "a/b", tmp_path / "missing/b"):
        with pytest.raises(OutputError, match=str(target)):
            check_writable(target)
    assert names_in(tmp_path) == ["a", "folder"]
    assert (tmp_path / "a").read_text() == "kept"


@posix
def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="a folder or a device"):
        write_text(pipe, "text")
    assert pipe.is_fifo()
    assert names_in(tmp_path) == ["pipe"]


@posix
@pytest.mark.parametrize(
    "name", ["-rf", "a b", "名前" * 40, "🙂" * 63, "x" * 255, os.fsdecode(b"caf\xe9"), "a\nb"]
)
def test_any_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "text")
    write_text(tmp_path / name, "again")
    assert names_in(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "again"


@posix
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    target = write_text(tmp_path / "a", "old")
    ended = run_python(
        "import resource, signal, sys, draem.files as f, draem.errors as e\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "f.write_bytes(sys.argv[1] + '.small', bytes(1000))\n"
        "try:\n"
        "    f.write_bytes(sys.argv[1], bytes(1001))\n"
        "except e.OutputError as error:\n"
        "    print(error)\n",
        target,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{target}: cannot be written (File too large). Choose a folder")
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["a", "a.small"]


HOLDING = """
import os, pathlib, sys, tempfile, draem.files as f
place = pathlib.Path(sys.argv[2])
tempfile.tempdir = str(place)
held = {
    "replacing": lambda: f.replacing(place / "a"),
    "locked": lambda: f.locked(place / "out"),
    "scratch": f.scratch_folder,
}[sys.argv[1]]
with held():
    print("ready", flush=True)
    sys.stdin.read()
"""


def holding(what: str, place: Path) -> subprocess.Popen[str]:
    """A process that holds a lock until it is killed, or its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, what, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str], how: int) -> None:
    with process:
        process.send_signal(how)


@posix
def test_what_a_killed_process_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".mine.tmp").touch()
    process = holding("replacing", tmp_path)
    (left,) = tmp_path.glob(".a.*.tmp")
    end(process, signal.SIGKILL)
    assert left.exists()
    write_text(tmp_path / "b", "")
    assert names_in(tmp_path) == [".mine.tmp", "b"]


@posix
def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    process = holding("replacing", tmp_path)
    write_text(tmp_path / "b", "")
    assert len(names_in(tmp_path)) == 2
    process.communicate("")
    assert process.returncode == 0
    assert names_in(tmp_path) == ["a", "b"]


@posix
def test_a_scratch_folder_outlives_no_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = holding("scratch", tmp_path)
    (left,) = tmp_path.iterdir()
    (left / "model").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as folder:
        assert sorted(tmp_path.iterdir()) == sorted([folder, left])
        end(process, signal.SIGKILL)
    assert names_in(tmp_path) == [left.name]
    with scratch_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert names_in(tmp_path) == []


def test_one_process_writes_into_a_locked_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = holding("locked", tmp_path)
    with pytest.raises(OutputError, match="another process is writing into this folder") as raised:
        locked(out).__enter__()
    assert raised.value.path == out
    end(process, signal.SIGTERM)
    with locked(out):
        (out / "results").touch()
    assert names_in(out) == ["results"]


@posix
def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    end(holding("locked", tmp_path), signal.SIGKILL)
    with locked(tmp_path / "out"):
        pass
    assert names_in(tmp_path / "out") == []


def test_a_lock_holds_between_threads_and_leaves_no_empty_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "out"), pytest.raises(OutputError, match="another process"):
        locked(tmp_path / "out").__enter__()
    assert names_in(tmp_path) == []


@posix
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_link(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "photo").write_text("kept")
    (tmp_path / "a").symlink_to(tmp_path / "photo")
    for write in (lambda path: write_text(path, "new"), check_writable):
        with pytest.raises(OutputError, match=r"a: is a link.*photo"):
            write(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()
    assert names_in(tmp_path) == ["a", "photo"][: 1 + there]
    assert not there or (tmp_path / "photo").read_text() == "kept"
