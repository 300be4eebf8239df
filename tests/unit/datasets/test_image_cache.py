from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from draem.datasets import decoding
from draem.datasets import image_cache as module
from draem.datasets.decoding import Preparation, decode_to_memory, resized
from draem.datasets.image_cache import Cache, decode_to_files, default_folder
from draem.datasets.image_source import ImageSource, fingerprint
from draem.errors import DatasetError, OutputError
from draem.files import replacing
from draem.imaging.decode import decode_image
from draem.imaging.resize import resize_image

SIZE = (24, 32)

IN_A_PROCESS = """
import os, sys
from pathlib import Path
from draem.datasets import image_cache as module
from draem.datasets.decoding import resized
from draem.datasets.image_cache import Cache, decode_to_files
from draem.errors import DraemError

data, folder = Path(sys.argv[1]), Path(sys.argv[2])
paths = sorted(data.iterdir())

def images(progress=lambda *_: None):
    preparation = resized(len(paths), (24, 32), "area")
    return decode_to_files(paths, preparation, Cache("always", folder), progress)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with ten images of several sizes."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(10):
        write(folder / f"{number:02d}.png", number)
    return folder


def write(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 60, 2)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)


@pytest.fixture
def read(data: Path, tmp_path: Path) -> Callable[..., ImageSource]:
    """Reads the folder through the cache."""

    def run(
        size: tuple[int, int] = SIZE,
        interpolation: str = "area",
        progress: module.Progress = lambda *_: None,
    ) -> ImageSource:
        paths = sorted(data.iterdir())
        preparation = resized(len(paths), size, interpolation)
        return decode_to_files(paths, preparation, Cache("always", tmp_path / "cache"), progress)

    return run


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, as it happens."""
    names: list[str] = []

    def counted(path: Path) -> np.ndarray:
        names.append(path.name)
        return decode_image(path)

    monkeypatch.setattr(decoding, "decode_image", counted)
    return names


def assert_right(images: ImageSource, data: Path) -> None:
    paths = sorted(data.iterdir())
    expected = decode_to_memory(paths, resized(len(paths), SIZE, "area"))
    assert images.shape == expected.shape
    assert images.nbytes == expected.nbytes
    np.testing.assert_array_equal(images[:], expected[:])
    np.testing.assert_array_equal(list(images), expected[:])
    assert images.fingerprint() == expected.fingerprint() == fingerprint(expected[:])


def test_without_a_home_the_cache_asks_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("DRAEM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OutputError, match=r"no home folder.*--cache-dir"):
        default_folder()


def test_images_are_those_that_memory_would_hold_and_decoded_once(read, data, decodings):
    images = read()
    assert len(decodings) == 10
    assert_right(images, data)
    decodings.clear()

    again = read()

    assert decodings == []
    np.testing.assert_array_equal(again[:], images[:])


def test_a_part_of_the_images_is_taken_unread(read, data):
    images = read()
    part = images.part(3, 7)

    assert len(part) == 4
    np.testing.assert_array_equal(part[1:], images[4:7])
    assert part.files == images.files[3:7]


def test_only_an_image_whose_content_changes_is_decoded_again(read, data, decodings):
    read()
    decodings.clear()

    (data / "04.png").rename(data / "99.png")
    assert_right(read(), data)
    assert decodings[:-10] == []  # the last ten are those of the comparison
    decodings.clear()

    write(data / "02.png", 77)
    write(data / "11.png", 78)
    read()
    assert sorted(decodings) == ["02.png", "11.png"]
    assert_right(read(), data)


def test_whatever_decides_the_pixels_belongs_to_the_key(read, decodings, monkeypatch):
    read()
    for change in (
        lambda: read(size=(32, 32)),
        lambda: read(interpolation="bilinear"),
        lambda: (monkeypatch.setattr(module, "DECODER_VERSION", -1), read()),
        lambda: (monkeypatch.setattr(PIL, "__version__", "0"), read()),
        lambda: (monkeypatch.setattr(module.cv2, "__version__", "0"), read()),
    ):
        decodings.clear()
        change()
        assert len(decodings) == 10


def test_an_interrupted_user_loses_nothing(read, data, decodings):
    def interrupt(what: str, done: int, _: int) -> None:
        if what.startswith("Decoding") and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(progress=interrupt)
    first = len(decodings)
    assert first >= 4

    steps: list[tuple[int, int]] = []
    images = read(progress=lambda what, *done: what.startswith("Dec") and steps.append(done))

    assert sorted(decodings) == sorted({path.name for path in data.iterdir()})
    assert steps == [(done, 10) for done in range(first + 1, 11)]
    assert_right(images, data)


def test_a_process_that_is_killed_half_way_leaves_what_the_next_goes_on_with(
    read, data, tmp_path, run_python, decodings
):
    code = f"""{IN_A_PROCESS}
def die(what, done, total):
    if what.startswith("Decoding") and done == 6:
        os.kill(os.getpid(), 9)
images(die)
"""
    assert run_python(code, data, tmp_path / "cache").returncode == -9

    images = read()

    assert len(decodings) <= 4
    assert_right(images, data)


def test_an_image_that_cannot_be_read_costs_only_itself(read, data, decodings):
    whole = (data / "03.png").read_bytes()
    (data / "03.png").write_bytes(whole[:-60])
    (data / "05.png").write_bytes(b"")
    (data / "06.png").write_bytes(b"")
    with pytest.raises(DatasetError) as raised:
        read()
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("3 of 10 images")
    assert [Path(line.split(": ")[0]).name for line in lines[1:]] == ["03.png", "05.png", "06.png"]
    decodings.clear()

    (data / "03.png").write_bytes(whole)
    (data / "05.png").unlink()
    (data / "06.png").unlink()
    images = read()

    assert decodings == ["03.png"]
    assert_right(images, data)


@pytest.mark.parametrize("how", ["truncated", "emptied", "deleted", "of another shape", "text"])
def test_a_file_that_is_not_whole_is_decoded_again(read, data, decodings, how):
    images = read()
    file, _ = images.files[3]
    if how == "deleted":
        file.unlink()
    elif how == "of another shape":
        np.save(file, np.zeros((1, 3, 32, 24), np.uint8))
    else:
        content = {"truncated": file.read_bytes()[:-1], "emptied": b"", "text": b"no pixels" * 300}
        file.write_bytes(content[how])
    decodings.clear()

    again = read()

    assert len(decodings) == 1
    assert_right(again, data)


@pytest.mark.parametrize("content", [None, b"", b"no pixels"])
def test_a_file_that_is_spoilt_meanwhile_is_named(read, content):
    images = read()
    file, _ = images.files[3]
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        DatasetError, match=r"has gone or is damaged.*Run the command again"
    ) as told:
        images.take([3])
    assert told.value.path == file


def test_several_processes_may_fill_a_cache_at_once(data, tmp_path):
    code = f"{IN_A_PROCESS}\nprint(images().fingerprint())"
    command = [sys.executable, "-c", code, str(data), str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=100) for process in processes]

    expected = decode_to_memory(sorted(data.iterdir()), resized(10, SIZE, "area")).fingerprint()
    assert [out.strip() for out, _ in ended] == [expected] * 3, ended
    (folder,) = (tmp_path / "cache").iterdir()
    assert len(list(folder.glob("*/*.npy"))) == 10
    assert not [path for path in folder.rglob(".*") if path.is_file()]  # no temporary files


def test_what_one_process_has_mapped_stays_when_another_decodes_more(read, data):
    images = read()
    before = images[:].copy()
    for number in range(5):
        write(data / f"{number:02d}.png", 100 + number)

    read()

    np.testing.assert_array_equal(images[:], before)


def test_a_disk_without_room_is_told_before_anything_is_decoded(read, decodings, monkeypatch):
    wanted = 10 * 24 * 32 * 3

    def usage(free: int) -> None:
        told = type("Usage", (), {"free": free})
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: told)

    usage(wanted - 1)
    with pytest.raises(OutputError, match=r"cache/24x32-\w+: .*GB.*GB.*--cache-dir"):
        read()
    assert decodings == []
    usage(wanted)
    assert len(read()) == 10


def test_a_disk_that_fills_up_meanwhile_costs_only_what_did_not_fit(
    read, data, decodings, monkeypatch
):
    written: list[Path] = []

    @contextmanager
    def filling_up(target: Path) -> Iterator[Path]:
        written.append(target)
        if len(written) > 6:
            raise OSError(28, "No space left on device")
        with replacing(target) as temporary:
            yield temporary

    monkeypatch.setattr(module, "replacing", filling_up)
    with pytest.raises(OutputError, match=r"cache/24x32-.*No space left.*--cache-dir"):
        read()
    monkeypatch.setattr(module, "replacing", replacing)
    decodings.clear()

    images = read()

    assert len(decodings) == 4
    assert_right(images, data)


def test_a_place_that_may_not_be_written_is_named(read, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match=r"cache/24x32-\w+: cannot be written"):
        read()


def test_a_complete_cache_is_read_where_nothing_may_be_written(read, data, monkeypatch):
    read()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    images = read()
    assert len(images) == 10
    assert images.fingerprint() == fingerprint(images[:])

    write(data / "03.png", 50)
    with pytest.raises(OutputError, match=r"cache/24x32-\w+: cannot be written"):
        read()


def test_files_that_become_several_pictures_each(data, tmp_path):
    paths = sorted(data.iterdir())
    counts = [1 + number % 3 for number in range(10)]

    def prepare(place: int, image: np.ndarray) -> np.ndarray:
        return np.stack([resize_image(image, SIZE) // (1 + n) for n in range(counts[place])])

    preparation = Preparation(SIZE, counts, {"overlap": 3}, prepare, "pictures")
    for _ in range(2):
        cache = Cache("always", tmp_path / "cache")
        images = decode_to_files(paths, preparation, cache, lambda *_: None)
        expected = [
            picture
            for place, path in enumerate(paths)
            for picture in prepare(place, decode_image(path))
        ]
        np.testing.assert_array_equal(images[:], expected)


def test_fingerprints_are_computed_once(read, data, monkeypatch):
    images = read()
    wholes = [part.fingerprint() for part in (images, images.part(0, 6), images.part(6, 10))]
    assert wholes == [fingerprint(part) for part in (images[:], images[:6], images[6:])]

    monkeypatch.setattr(ImageSource, "__getitem__", None)
    again = read()
    assert again.fingerprint() == wholes[0]
    assert again.part(6, 10).fingerprint() == wholes[2]


@pytest.mark.parametrize("content", [b"", b"0123", b"\x93NUMPY", b"g" * 16])
def test_a_damaged_fingerprint_is_computed_again(read, tmp_path, content):
    whole = read().fingerprint()
    (kept,) = tmp_path.rglob("fingerprints/*")
    kept.write_bytes(content)

    assert read().fingerprint() == whole
    assert kept.read_text() == whole


@pytest.mark.parametrize(
    ("mode", "size", "processes", "memory", "taken"),
    [
        ("auto", 25, 1, 100, False),
        ("auto", 26, 1, 100, True),
        ("auto", 25, 2, 100, True),
        ("auto", 10**15, 1, None, False),
        ("always", 1, 1, 100, True),
        ("never", 10**15, 1, 100, False),
    ],
)
def test_when_images_go_to_the_disk(mode, size, processes, memory, taken, monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: memory)
    assert Cache(mode, None, processes).takes(size) == taken


def test_where_caches_lie(monkeypatch, tmp_path):
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.delenv("DRAEM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "draem"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "draem"
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert default_folder() == Path.home() / "Library" / "Caches" / "draem"
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_folder() == tmp_path / "local" / "draem"
    monkeypatch.setenv("DRAEM_CACHE", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"


def test_a_file_that_changes_while_it_is_read_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    pictures = [np.full((*SIZE, 3), level, np.uint8) for level in (10, 200)]
    Image.fromarray(pictures[0]).save(path)

    def decode(opened: Path) -> np.ndarray:
        Image.fromarray(pictures[1]).save(path)
        return decode_image(opened)

    def images() -> np.ndarray:
        cache = Cache("always", tmp_path / "cache")
        return decode_to_files([path], resized(1, SIZE, "area"), cache, lambda *_: None)[0]

    monkeypatch.setattr(decoding, "decode_image", decode)
    with pytest.raises(DatasetError, match=r"a\.png: has changed while it was being read"):
        images()
    monkeypatch.undo()
    Image.fromarray(pictures[0]).save(path)
    assert np.array_equal(images(), pictures[0])


def test_a_stored_image_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    cache = Cache("always", tmp_path / "cache")
    source = decode_to_files([path], resized(1, SIZE, "area"), cache, lambda *_: None)
    with source.files[0][0].open("rb+") as file:
        file.truncate(1000)
    with pytest.raises(DatasetError, match="has gone or is damaged"):
        source[0]
