from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.datasets import decoding, parallel
from draem.datasets.decoding import decode_to_memory, plan_grids, resized, tiled
from draem.datasets.image_source import ImageSource, fingerprint
from draem.errors import DatasetError, OutOfMemoryError
from draem.imaging.decode import decode_image
from draem.imaging.resize import resize_image
from draem.imaging.tiles import TileGrid, cut_tiles


def decode_images(paths, size, interpolation, progress=None) -> np.ndarray:
    return decode_to_memory(paths, resized(len(paths), size, interpolation), progress)[:]


def decode_tiles(paths, size, overlap) -> tuple[ImageSource, list[TileGrid]]:
    grids = plan_grids(paths, size, overlap)
    return decode_to_memory(paths, tiled(grids, size, overlap)), grids


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(2)
    written = []
    for index in range(12):
        height, width = rng.integers(20, 60, 2)
        path = tmp_path / f"{index:02d}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        written.append(path)
    return written


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
def test_images_come_resized_and_in_order(paths, interpolation):
    images = decode_images(paths, (24, 32), interpolation)

    assert images.shape == (12, 24, 32, 3)
    assert images.dtype == np.uint8
    for path, image in zip(paths, images, strict=True):
        expected = resize_image(decode_image(path), (24, 32), interpolation)
        np.testing.assert_array_equal(image, expected)


def test_order_holds_where_the_first_images_take_longest(paths, monkeypatch):
    def slow_decode(path: Path) -> np.ndarray:
        number = int(path.stem)
        time.sleep(0.05 if number < 3 else 0)
        return np.full((16, 16, 3), number, np.uint8)

    monkeypatch.setattr(decoding, "decode_image", slow_decode)

    assert decode_images(paths, (16, 16), "area")[:, 0, 0, 0].tolist() == list(range(12))


def test_progress_counts_every_image(paths):
    calls: list[tuple[int, int]] = []

    decode_images(paths, (16, 16), "bilinear", lambda *call: calls.append(call))

    assert calls == [(done, 12) for done in range(1, 13)]


def test_no_images_give_an_empty_array():
    assert decode_images([], (16, 20), "bilinear").shape == (0, 16, 20, 3)


def test_few_full_size_images_are_held_at_once(paths, monkeypatch):
    lock, held, most = threading.Lock(), 0, 0

    def counted_decode(path: Path) -> np.ndarray:
        nonlocal held, most
        with lock:
            held, most = held + 1, max(most, held + 1)
        time.sleep(0.002)
        return decode_image(path)

    def counted_resize(*arguments: object) -> np.ndarray:
        nonlocal held
        resized = resize_image(*arguments)  # type: ignore[arg-type]
        with lock:
            held -= 1
        return resized

    monkeypatch.setattr(decoding, "decode_image", counted_decode)
    monkeypatch.setattr(decoding, "resize_image", counted_resize)
    monkeypatch.setattr(parallel, "_MAX_THREADS", 3)
    monkeypatch.setattr("os.cpu_count", lambda: 64)

    decode_images(paths * 5, (16, 16), "bilinear")

    assert 1 < most <= 3


def test_every_unreadable_image_is_listed(paths, tmp_path):
    paths[3].write_text("no image")
    paths[7].unlink()
    paths[9].write_bytes(paths[9].read_bytes()[:-800])
    calls: list[int] = []

    with pytest.raises(DatasetError) as raised:
        decode_images(paths, (16, 16), "bilinear", lambda done, _: calls.append(done))

    lines = str(raised.value).splitlines()
    assert lines[0] == "3 of 12 images cannot be read; repair or remove them:"
    assert str(paths[3]) in lines[1]
    assert "is not an image" in lines[1]
    assert str(paths[7]) in lines[2]
    assert "does not exist" in lines[2]
    assert str(paths[9]) in lines[3]
    assert "damaged" in lines[3]
    assert not str(raised.value).endswith("..")
    assert calls[-1] == 12


def test_an_interrupted_user_does_not_wait_for_the_rest(paths, monkeypatch):
    started: list[Path] = []

    def slow_decode(path: Path) -> np.ndarray:
        started.append(path)
        time.sleep(0.01)
        return decode_image(path)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "decode_image", slow_decode)
    with pytest.raises(KeyboardInterrupt):
        decode_images(paths * 20, (16, 16), "bilinear", interrupt)

    assert len(started) < 60


def test_the_fingerprint_tells_pixels_order_and_shape_apart():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 4, 3), dtype=np.uint8)
    changed = images.copy()
    changed[2, 7, 3, 2] ^= 1

    prints = {
        fingerprint(images),
        fingerprint(changed),
        fingerprint(images[::-1]),
        fingerprint(images.reshape(3, 4, 8, 3)),
        fingerprint(images[:2]),
        fingerprint(images[:0]),
    }

    assert len(prints) == 6
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)
    assert fingerprint(images.copy()) == fingerprint(images)
    assert fingerprint(np.asfortranarray(images)) == fingerprint(images)


def test_the_fingerprint_stays_the_same_over_versions():
    # sha256 of b"(1, 1, 2, 3)" and the bytes 0 to 5, computed with coreutils' sha256sum.
    images = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)

    assert fingerprint(images) == "38475a8784a2f3dd"


def test_tiles_come_image_by_image_at_their_own_resolution(paths):
    tiles, grids = decode_tiles(paths, (32, 32), 8)

    assert tiles[:].dtype == np.uint8
    assert len(tiles) == sum(grid.count for grid in grids)
    assert len({grid.count for grid in grids}) > 1
    remaining = list(tiles)
    for path, grid in zip(paths, grids, strict=True):
        image = decode_image(path)
        assert grid.image_size == image.shape[:2]
        own, remaining = remaining[: grid.count], remaining[grid.count :]
        np.testing.assert_array_equal(own, list(cut_tiles(image, grid)))
    assert not remaining


def test_every_unreadable_image_is_listed_by_its_header_or_its_pixels(paths):
    paths[3].write_text("no image")
    paths[9].write_bytes(paths[9].read_bytes()[:-800])

    with pytest.raises(DatasetError) as raised:
        decode_tiles(paths, (32, 32), 8)

    lines = str(raised.value).splitlines()
    assert lines[0].startswith("2 of 12 images")
    assert str(paths[3]) in lines[1]
    assert str(paths[9]) in lines[2]


def test_no_images_give_no_tiles():
    tiles, grids = decode_tiles([], (32, 32), 8)
    assert tiles.shape == (0, 3, 32, 32)
    assert grids == []


def test_tiles_that_do_not_fit_in_memory_are_refused_before_any_is_decoded(paths, monkeypatch):
    def decode(path: Path) -> np.ndarray:
        raise AssertionError

    tiles, _ = decode_tiles(paths, (32, 32), 8)
    monkeypatch.setattr(decoding, "available_memory", lambda: tiles.nbytes)
    decode_tiles(paths, (32, 32), 8)
    monkeypatch.setattr(decoding, "available_memory", lambda: tiles.nbytes - 1)
    monkeypatch.setattr(decoding, "decode_image", decode)
    with pytest.raises(OutOfMemoryError, match=rf"{len(tiles)} tiles.*GB.*GB.*fewer images"):
        decode_tiles(paths, (32, 32), 8)
