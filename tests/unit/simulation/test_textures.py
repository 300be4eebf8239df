from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from draem.errors import MissingDependencyError, TextureError
from draem.imaging.encode import write_png
from draem.simulation import palette, textures
from draem.simulation.canvas import Canvas
from draem.simulation.palette import (
    RAMPS,
    RECIPES,
    VALIDATION_RECIPES,
    procedural_textures,
    validation_textures,
)
from draem.simulation.textures import (
    PHOTOGRAPHS,
    builtin_photographs,
    builtin_textures,
    load_textures,
    read_textures,
)

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def builtin() -> Pixels:
    return builtin_textures((96, 96))


def plain(level: int, shape: tuple[int, int] = (20, 30)) -> Pixels:
    return np.full((*shape, 3), level, np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (48, 100), (97, 33)])
def test_builtin_textures_have_the_size_asked(size: tuple[int, int]) -> None:
    made = builtin_textures(size)

    assert made.shape == (len(PHOTOGRAPHS) + len(RECIPES), *size, 3)
    assert made.dtype == np.uint8
    assert len(made) >= 60


def test_formulas_alone_are_enough() -> None:
    assert len(RECIPES) >= 40


def test_builtin_textures_are_the_same_every_time(builtin: Pixels) -> None:
    np.testing.assert_array_equal(builtin_textures((96, 96)), builtin)


def test_builtin_textures_are_distinct(builtin: Pixels) -> None:
    flat = builtin.reshape(len(builtin), -1).astype(np.int16)
    closest = min(np.abs(flat[i + 1 :] - flat[i]).mean(axis=1).min() for i in range(len(flat) - 1))

    assert closest > 15


def test_builtin_textures_use_the_full_range(builtin: Pixels) -> None:
    assert builtin.min() == 0
    assert builtin.max() == 255
    # Every texture has some contrast, and together they fill dark, middle and bright.
    assert builtin.std(axis=(1, 2)).max(axis=1).min() > 5
    shares = np.histogram(builtin, bins=8, range=(0, 256))[0] / builtin.size
    assert shares.min() > 0.04


def test_builtin_textures_are_partly_coloured(builtin: Pixels) -> None:
    colour = (builtin.max(axis=3).astype(int) - builtin.min(axis=3)).mean(axis=(1, 2))

    assert 10 < np.count_nonzero(colour < 3) < len(builtin) / 2
    assert np.count_nonzero(colour > 40) > 20


@pytest.mark.parametrize("index", range(len(RECIPES)))
def test_each_formula_reaches_both_ends_of_its_ramp(index: int) -> None:
    made = procedural_textures((64, 64))[index].reshape(-1, 3)
    stops = RAMPS[RECIPES[index][0]].split()

    for stop in (stops[0], stops[-1]):
        colour = np.array(list(bytes.fromhex(stop[1:])))
        assert (np.abs(made.astype(int) - colour).max(axis=1) <= 12).any()


def test_every_ramp_is_used() -> None:
    assert {ramp for ramp, _ in RECIPES} == set(RAMPS)


def test_no_texture_of_validation_is_among_those_of_training() -> None:
    size = (96, 96)
    training, validation = (
        made.mean(axis=3).reshape(len(made), -1)
        for made in (builtin_textures(size), validation_textures(size))
    )
    assert len(validation) == len(VALIDATION_RECIPES) >= 10

    training, validation = (
        (made - made.mean(axis=1, keepdims=True)) / made.std(axis=1, keepdims=True)
        for made in (training, validation)
    )
    for first, second, most in ((validation, training, 0.4), (validation, validation, 0.4)):
        alike = np.abs(first @ second.T) / first.shape[1]
        if first is second:
            np.fill_diagonal(alike, 0)
        assert alike.max() < most


@pytest.mark.parametrize("size", [(64, 64), (48, 100), (97, 33)])
def test_textures_of_validation_have_any_size_and_are_the_same_every_time(
    size: tuple[int, int],
) -> None:
    made = validation_textures(size)

    assert made.shape == (len(VALIDATION_RECIPES), *size, 3)
    np.testing.assert_array_equal(made, validation_textures(size))
    assert made.std(axis=(1, 2)).max(axis=1).min() > 5


def test_a_pattern_keeps_its_scale_at_another_size() -> None:
    """The first recipe is a vertical grating of 24 cycles, whatever the size."""
    for side in (96, 240):
        row = procedural_textures((side, side))[0, side // 2, :, 1].astype(float)
        spectrum = np.abs(np.fft.rfft(row - row.mean()))
        assert int(spectrum.argmax()) == 24


def test_fractal_noise_keeps_to_its_band() -> None:
    x, y = np.meshgrid(*2 * [np.arange(128, dtype=np.float32) / 128])
    canvas = Canvas(x, y, np.random.default_rng(0))
    power = np.abs(np.fft.fft2(canvas.fractal(0.0, low=10, high=20))) ** 2
    frequency = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(128, 1 / 128)]))

    inside = power[(frequency > 8) & (frequency < 24)].sum()
    assert inside / power.sum() > 0.95


def test_fractal_noise_has_the_same_scale_on_a_wide_canvas() -> None:
    x, y = np.meshgrid(np.arange(256, dtype=np.float32) / 64, np.arange(64, dtype=np.float32) / 64)
    field = Canvas(x, y, np.random.default_rng(0)).fractal(0.0, low=6, high=9)

    across = np.abs(np.fft.rfft(field, axis=1)).mean(axis=0)
    # Seven cycles a side are 28 over a canvas four sides wide.
    assert 16 < int(across.argmax()) < 40


def test_photographs_are_cropped_where_said(builtin: Pixels) -> None:
    """Coins, whole height and left four fifths, against OpenCV reading the file itself."""
    index = next(i for i, (name, _) in enumerate(PHOTOGRAPHS) if name == "coins.png")
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    whole = cv2.imread(str(Path(spec.origin).parent / "data" / "coins.png"))
    assert whole is not None
    crop = whole[:, : round(0.8 * whole.shape[1])]
    expected = cv2.resize(crop, (96, 96), interpolation=cv2.INTER_AREA)

    assert np.abs(builtin[index].astype(int) - expected).max() <= 1


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, builtin: Pixels) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    np.testing.assert_array_equal(builtin_textures((96, 96)), builtin)


def test_without_scikit_image_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingDependencyError, match=r"draem\[train\]"):
        builtin_textures((32, 32))
    with pytest.raises(MissingDependencyError, match=r"draem\[train\]"):
        builtin_photographs()


@pytest.mark.parametrize("content", [None, b"", b"another picture"])
def test_photographs_that_are_missing_or_other_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    shutil.copytree(textures._photograph_folder(), tmp_path / "data")
    coins = tmp_path / "data" / "coins.png"
    coins.unlink()
    if content is not None:
        coins.write_bytes(content)
    monkeypatch.setattr(textures, "_photograph_folder", lambda: tmp_path / "data")

    for read in (lambda: builtin_textures((32, 32)), builtin_photographs):
        with pytest.raises(TextureError, match=r"missing or another one.*--textures") as raised:
            read()
        assert raised.value.path == coins
        assert raised.value.expected is not None
        assert raised.value.expected.startswith("SHA-256 f8d773fc9cfa")


def test_photographs_come_whole_and_once_in_order() -> None:
    photographs = builtin_photographs()

    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    names = dict.fromkeys(name for name, _ in PHOTOGRAPHS)
    files = [folder / name for name in names if (folder / name).is_file()]
    assert len(photographs) == len(files) > 5
    for photograph, file in zip(photographs, files, strict=True):
        expected = cv2.imread(str(file))
        assert expected is not None
        assert photograph.dtype == np.uint8
        assert photograph.shape == expected.shape
        np.testing.assert_array_equal(photograph[::7, ::7], expected[::7, ::7, ::-1])


def test_a_constant_field_is_painted_in_one_colour() -> None:
    painted = palette._paint(np.ones((4, 5), np.float32), "fire")

    assert painted.shape == (4, 5, 3)
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == 1


def test_a_folder_is_read_with_its_subfolders_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_png(tmp_path / "b" / "two.png", plain(200))
    write_png(tmp_path / "a.png", plain(100))
    (tmp_path / "notes.txt").write_text("not a texture")
    calls: list[tuple[int, int]] = []

    made = load_textures(tmp_path, (16, 24), progress=lambda *call: calls.append(call))

    assert made.shape == (2, 16, 24, 3)
    assert made.dtype == np.uint8
    assert made[0].min() == made[0].max() == 100
    assert made[1].min() == made[1].max() == 200
    assert calls[-1] == (2, 2)


def test_textures_are_averaged_when_shrunk(tmp_path: Path) -> None:
    fine = np.indices((64, 64)).sum(axis=0) % 2 * 255
    write_png(tmp_path / "fine.png", np.repeat(fine[..., None], 3, axis=2).astype(np.uint8))

    made = load_textures(tmp_path, (16, 16))

    assert np.abs(made.astype(int) - 127.5).max() <= 1


def test_textures_are_shrunk_as_by_the_published_loader_if_asked(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    write_png(tmp_path / "noise.png", pixels)

    made = read_textures(tmp_path, (16, 24), interpolation="bilinear")[0]

    np.testing.assert_array_equal(made, cv2.resize(pixels, (24, 16)))
    assert made.std() > 1.5 * load_textures(tmp_path, (16, 24))[0].std()


def test_interpolation_changes_photographs_and_no_formula(builtin: Pixels) -> None:
    made = read_textures(None, (96, 96), interpolation="bilinear")[:]

    count = len(PHOTOGRAPHS)
    assert all((made[i] != builtin[i]).any() for i in range(count))
    np.testing.assert_array_equal(made[count:], builtin[count:])


def test_a_missing_texture_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextureError, match="nowhere: is not a folder"):
        load_textures(tmp_path / "nowhere", (16, 16))


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a texture")

    with pytest.raises(TextureError, match="holds no images"):
        load_textures(tmp_path, (16, 16))


def test_all_unreadable_textures_are_listed(tmp_path: Path) -> None:
    write_png(tmp_path / "fine.png", plain(100))
    for name in ("broken.png", "torn.jpg"):
        (tmp_path / name).write_bytes(b"no image at all")

    with pytest.raises(TextureError) as caught:
        load_textures(tmp_path, (16, 16))
    assert "broken.png" in str(caught.value)
    assert "torn.jpg" in str(caught.value)
    assert "fine.png" not in str(caught.value)
