from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from draem.datasets.store import PixelStore

SIZE = (8, 12)
SLOT = 8 * 12 * 3


def images(seed: int, count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)


def key(number: int) -> bytes:
    return bytes([number]) * 32


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., PixelStore]:
    """A store of images 1, 2, ... with one slot each but for the second, which has three."""

    def make(count: int = 4) -> PixelStore:
        store = PixelStore(tmp_path, SIZE)
        writer = store.writer()
        for number in range(1, count + 1):
            writer.add(key(number), images(number, 3 if number == 2 else 1))
        writer.close()
        store.set_checked()
        return store

    return make


def kept(store: PixelStore, number: int) -> NDArray[np.uint8]:
    place = store.places()[key(number)]
    return store.mapped()[place.first : place.first + place.slots]


def test_images_come_back(filled: Callable[..., PixelStore]) -> None:
    store = PixelStore(filled().folder, SIZE)

    assert store.is_checked()
    assert store.places().keys() == {key(number) for number in range(1, 5)}
    assert store.slots() == 6
    for number in range(1, 5):
        np.testing.assert_array_equal(kept(store, number), images(number, 3 if number == 2 else 1))


def test_what_was_not_committed_does_not_count(filled: Callable[..., PixelStore]) -> None:
    store = filled(2)
    writer = store.writer()
    writer.add(key(7), images(7))
    assert key(7) not in store.places()

    writer.commit()

    np.testing.assert_array_equal(kept(store, 7), images(7))
    np.testing.assert_array_equal(kept(store, 1), images(1))
    writer.close()


def test_a_line_that_a_crash_has_cut_is_written_over(filled: Callable[..., PixelStore]) -> None:
    store = filled(3)
    content = store.journal.read_bytes()
    for cut in (1, 20, len(content) // 3 - 1):
        store.journal.write_bytes(content[:-cut])
        assert store.places().keys() == {key(1), key(2)}
        writer = store.writer()
        writer.add(key(3), images(3))
        writer.close()
        assert store.places().keys() == {key(1), key(2), key(3)}
        np.testing.assert_array_equal(kept(store, 3), images(3))


def test_a_line_with_a_wrong_bit_does_not_count(filled: Callable[..., PixelStore]) -> None:
    store = filled(3)
    content = bytearray(store.journal.read_bytes())
    length = len(content) // 3
    for place in (0, 33, 41, 49, length - 1):
        spoilt = content.copy()
        spoilt[length + place] ^= 16
        store.journal.write_bytes(spoilt)
        assert store.places().keys() == {key(1), key(3)}


def test_pixels_that_changed_are_noticed_and_not_written_over(
    filled: Callable[..., PixelStore],
) -> None:
    store = filled()
    with store.pixels.open("r+b") as file:
        file.seek(SLOT * 2 + 5)  # in the second of the second image's slots
        byte = file.read(1)[0]
        file.seek(SLOT * 2 + 5)
        file.write(bytes([byte ^ 1]))
    assert not store.is_checked()
    assert store.damaged(store.places()) == {key(2)}

    store.repair()

    assert store.places().keys() == {key(1), key(3), key(4)}
    writer = store.writer()
    writer.add(key(2), images(2, 3))
    writer.close()
    assert store.slots() == 9  # another process may have the spoilt slots mapped
    for number in (1, 3, 4):
        np.testing.assert_array_equal(kept(store, number), images(number))
    np.testing.assert_array_equal(kept(store, 2), images(2, 3))


def test_images_beyond_the_end_of_the_file_do_not_count(
    filled: Callable[..., PixelStore],
) -> None:
    store = filled()
    with store.pixels.open("r+b") as file:
        file.truncate(SLOT * 5 - 1)
    assert not store.is_checked()
    assert store.places().keys() == {key(1), key(2)}

    store.repair()
    writer = store.writer()
    writer.add(key(3), images(3))
    writer.close()

    # The gap in between, which now reads as black, is nobody's.
    assert store.places().keys() == {key(1), key(2), key(3)}
    np.testing.assert_array_equal(kept(store, 3), images(3))


def test_the_later_of_two_lines_counts(filled: Callable[..., PixelStore]) -> None:
    store = filled(2)
    writer = store.writer()
    writer.add(key(1), images(9))
    writer.close()

    np.testing.assert_array_equal(kept(store, 1), images(9))


def test_a_store_of_nothing(tmp_path: Path) -> None:
    store = PixelStore(tmp_path / "nowhere", SIZE)

    assert store.places() == {}
    assert store.slots() == 0
    assert not store.is_checked()
    assert store.damaged({}) == set()


def test_a_file_larger_than_the_memory_is_mapped(tmp_path: Path) -> None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        pytest.skip("this system does not tell how much memory it has")
    told = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    memory = 1024 * sum(int(told[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    store = PixelStore(tmp_path, (1024, 1024))
    slots = 2 * memory // (1024 * 1024 * 3) + 1
    with store.pixels.open("wb") as file:
        file.truncate(slots * 1024 * 1024 * 3)  # takes no room, as nothing is written

    mapped = store.mapped()

    assert mapped.shape == (slots, 1024, 1024, 3)
    assert not mapped[-1].any()
    with pytest.raises(ValueError, match="read-only"):
        mapped[0, 0, 0, 0] = 1
