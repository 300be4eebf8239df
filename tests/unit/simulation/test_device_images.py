from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from draem.config import PAPER, UPSTREAM, VARIED, ResolvedSimulationConfig
from draem.datasets.image_source import ImageSource
from draem.errors import OutputError
from draem.simulation import device_images as module
from draem.simulation.device_images import DeviceImages, place_images, resident
from draem.simulation.factory import make_simulator, without_clean_samples
from draem.simulation.foreground import find_foreground, place_weights
from draem.simulation.grayscale import are_grayscale, is_grayscale
from draem.simulation.simulator import SimulatedBatch
from tests.support import source

CPU = torch.device("cpu")
ROWS = np.array([7, 2, 3, 0, 9, 5], np.int64)


def noise(count: int, size: tuple[int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def parts(count: int = 10) -> Tensor:
    """Parts before a plain background, a little elsewhere in each picture."""
    images = 20 + noise(count, (64, 96), 1) // 32
    for number, image in enumerate(images):
        image[:, 18 + number : 42 + number, 40:64] += 100 + noise(1, (24, 24), number)[0] // 3
    return images


def on_disk(images: Tensor, folder: Path) -> ImageSource:
    """The images in `ROWS`: three in a file of three, the others in files of their own."""
    several, files = folder / "several.npy", []
    np.save(several, images[ROWS[:3].tolist()].numpy())
    for row in ROWS:
        np.save(folder / f"{row}.npy", images[[int(row)]].numpy())
    files = [(several, 0), (several, 1), (several, 2)]
    files += [(folder / f"{row}.npy", 0) for row in ROWS[3:]]
    return ImageSource((len(ROWS), *images.shape[1:]), None, tuple(files), folder)


def filed(images: Tensor, folder: Path) -> DeviceImages:
    """All images in one file."""
    np.save(folder / "all.npy", images.numpy())
    files = tuple((folder / "all.npy", row) for row in range(len(images)))
    return place_images(ImageSource(tuple(images.shape), None, files, folder), CPU)


def in_memory(images: Tensor) -> Tensor:
    return images[torch.from_numpy(ROWS)]


def assert_same(first: SimulatedBatch, second: SimulatedBatch) -> None:
    for name, *pair in zip(SimulatedBatch._fields, first, second, strict=True):
        assert torch.equal(*pair), name


def test_images_are_counted_measured_and_taken_like_a_tensor(tmp_path: Path) -> None:
    mapped, whole = place_images(on_disk(parts(), tmp_path), CPU), in_memory(parts())

    assert len(mapped) == 6
    assert mapped.shape == whole.shape
    assert mapped.nbytes == whole.nbytes
    places = torch.tensor([3, 0, 3])
    assert torch.equal(mapped.take(places), whole[places])
    assert torch.equal(resident(whole).take(places), whole[places])


@pytest.mark.parametrize("limit", [1, 3 * 64 * 96 * 4, 10**9])
def test_all_images_are_seen_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(module, "_CHUNK", limit)
    whole = in_memory(parts())
    for images in (place_images(on_disk(parts(), tmp_path), CPU), resident(whole)):
        seen = list(images.chunks())
        assert [start for start, _ in seen] == list(range(0, 6, min(6, max(1, limit // 18432))))
        assert torch.equal(torch.cat([part for _, part in seen]), whole)


VARIED_TURNED = VARIED.replace(
    crop=32, zoom=1.5, rotation_share=0.5, rotation_degrees=90, flips=True
)


@pytest.mark.parametrize("with_region", [False, True])
@pytest.mark.parametrize(
    "profile",
    [PAPER, UPSTREAM, VARIED.replace(crop=32), VARIED_TURNED, VARIED_TURNED.replace(crop=None)],
    ids=["paper", "upstream", "varied", "turned", "whole"],
)
@pytest.mark.parametrize("images", [parts(), noise(10, (64, 96), 5)], ids=["parts", "noise"])
def test_batches_are_the_same_from_the_disk_and_from_memory(
    images: Tensor,
    profile: ResolvedSimulationConfig,
    with_region: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 3 * 64 * 96 * 4)  # four pictures and then two
    region = None
    if with_region:
        region = torch.zeros(64, 96, dtype=torch.bool)
        region[10:40, 30:70] = True
    textures = noise(3, (64, 96), 2)
    mapped, whole = on_disk(images, tmp_path), in_memory(images)
    made = [
        make_simulator(each, source(textures), profile, 3, region)
        for each in (mapped, source(whole), source(whole))
    ]
    # Images that stay in the host's memory, as for a GPU that is too small for them.
    made[1].normal_images = DeviceImages(whole.shape, CPU, None, source(whole))
    for step in range(3):
        expected = made[-1].batch(step, 8)
        assert_same(made[0].batch(step, 8), expected)
        assert_same(made[1].batch(step, 8), expected)
    validating = [without_clean_samples(each, 9) for each in made]
    assert_same(validating[0].batch(1, 4), validating[2].batch(1, 4))
    shares = made[0].batch(0, 4, rank=1, world=2), made[2].batch(0, 4, rank=1, world=2)
    assert_same(*shares)


def float_parts(images: Tensor) -> tuple[Tensor, Tensor]:
    """The part by torch's pooling of floats, and which pictures show one."""
    pixels = images.float() / 255
    edges = pixels[:, :, :4], pixels[:, :, -4:], pixels[..., :4], pixels[..., -4:]
    border = torch.cat([edge.flatten(2) for edge in edges], dim=2)
    color = border.median(dim=2, keepdim=True).values
    plain = ((border - color).abs().amax(1) < 0.1).float().mean(1) > 0.9
    away = (pixels - color[..., None]).abs().amax(1, keepdim=True)
    part = (functional.avg_pool2d(away, 5, 1, 2) > 0.1).float()
    share = part.mean((1, 2, 3))
    usable = plain & (share > 0.01) & (share < 0.6)
    grown = functional.max_pool2d(part, 9, 1, 4)
    grown[~usable] = 1
    return (255 * grown).to(torch.uint8), usable


@pytest.mark.parametrize("odd", [0, 1, 3])
def test_the_part_is_that_of_torchs_pooling_of_floats(
    odd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 3 * 64 * 96 * 3)
    images = parts(20)
    images[:odd] = noise(odd, (64, 96), 8)
    expected, usable = float_parts(images)
    assert int(usable.sum()) == 20 - odd

    found = find_foreground(resident(images))
    on_files = filed(images, tmp_path)
    mapped = find_foreground(on_files)

    assert (found is None) == (mapped is None) == (odd == 3)
    if found is not None and mapped is not None:
        everything = torch.arange(20)
        assert torch.equal(found.take(everything), expected)
        assert torch.equal(mapped.take(everything), expected)
        weights = place_weights(found, resident(images))
        assert torch.equal(place_weights(mapped, on_files), weights)
        assert {path.suffix for path in tmp_path.iterdir()} == {".npy"}  # the rest has no name


def test_pictures_without_a_part_take_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(module, "_nameless_file", None)
    assert find_foreground(filed(noise(10, (64, 96), 3), tmp_path)) is None


@pytest.mark.parametrize("grey", [True, False])
def test_grey_pictures_on_the_disk_are_told(grey: bool, tmp_path: Path) -> None:
    images = noise(10, (64, 96), 4)
    images = images[:, :1].expand(-1, 3, -1, -1).contiguous() if grey else images
    images[2] = 7
    mapped = place_images(on_disk(images, tmp_path), CPU)
    assert is_grayscale(mapped) == grey
    assert are_grayscale(mapped).tolist() == [grey or row == 2 for row in ROWS]


def test_what_is_computed_for_images_in_files_is_in_a_file(tmp_path: Path) -> None:
    images = filed(parts(), tmp_path)
    for dtype in (torch.uint8, torch.float32):
        computed = images.empty((5, 7), dtype)
        assert computed.dtype == dtype
        computed[:] = torch.arange(7)
        assert computed.sum() == 5 * 21
    assert [path.name for path in tmp_path.iterdir()] == ["all.npy"]
    assert resident(parts()).empty((2, 3), torch.float32).shape == (2, 3)
    assert place_images(source(parts()), CPU).empty((2, 3), torch.uint8).shape == (2, 3)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match=r"No space left.*--cache-dir") as raised:
        filed(parts(), tmp_path).empty((5, 7), torch.uint8)
    assert raised.value.path == tmp_path


def test_a_folder_that_can_only_be_read_is_no_hindrance(tmp_path: Path) -> None:
    images = filed(parts(), tmp_path)
    assert images.source is not None
    elsewhere = replace(images, source=replace(images.source, folder=tmp_path / "nowhere"))
    assert elsewhere.empty((5, 7), torch.uint8).shape == (5, 7)


def test_images_are_moved_to_a_gpu_if_they_fit_and_fetched_if_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, mapped = source(in_memory(parts())), on_disk(parts(), tmp_path)
    gpu = torch.device("cuda", 0)

    for images in (whole, mapped):
        monkeypatch.setattr(module, "_fits", lambda *_: False)
        fetched = place_images(images, gpu)
        assert fetched.device == gpu
        assert fetched.stored is None
        assert fetched.source is images
    on_cpu = place_images(whole, CPU)
    assert on_cpu.stored is not None
    assert on_cpu.stored.data_ptr() == whole.pixels.ctypes.data  # not copied


def test_a_gpu_must_have_room_for_twice_the_pictures_and_their_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.zeros(3, 3, 10, 10, dtype=torch.uint8)
    needed = 2 * 900 * 4 // 3
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10**12))
        assert module._fits(images.nbytes, torch.device("cuda:0")) == fits
