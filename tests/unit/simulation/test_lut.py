from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from draem.simulation import lut

Pixels = npt.NDArray[np.uint8]
VALUES = np.arange(256)


def with_pillow(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    changed = [
        np.asarray(change(Image.fromarray(picture.permute(1, 2, 0).numpy()))) for picture in images
    ]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2)


def repeated(value: float, batch: Tensor) -> Tensor:
    return torch.full((len(batch),), float(value))


def assert_whole(table: Tensor) -> None:
    assert torch.equal(table, table.round())
    assert float(table.min()) >= 0
    assert float(table.max()) <= 255


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_is_pillows(batch: Tensor, bits: int) -> None:
    changed = lut.apply(batch, lut.posterize(repeated(bits, batch)))

    assert torch.equal(
        changed, with_pillow(batch, lambda picture: ImageOps.posterize(picture, bits))
    )


@pytest.mark.parametrize("threshold", [0, 1, 32, 128, 200.5, 255, 256])
def test_solarize_is_pillows(batch: Tensor, threshold: float) -> None:
    changed = lut.apply(batch, lut.solarize(repeated(threshold, batch)))

    expected = with_pillow(batch, lambda picture: ImageOps.solarize(picture, threshold))  # type: ignore[arg-type]
    assert torch.equal(changed, expected)


def test_invert_is_pillows(batch: Tensor) -> None:
    changed = lut.apply(batch, lut.invert(len(batch)))

    assert torch.equal(changed, with_pillow(batch, ImageOps.invert))


def test_equalize_is_pillows(batch: Tensor) -> None:
    changed = lut.apply(batch, lut.equalize(lut.value_counts(batch)))

    assert torch.equal(changed, with_pillow(batch, ImageOps.equalize))


def test_equalize_is_pillows_for_pictures_of_few_pixels() -> None:
    # Below 255 pixels the step is 0; a little above, the cumulated counts overshoot 255.
    rng = np.random.default_rng(1)
    for side in (3, 15, 17, 22):
        picture = torch.from_numpy(rng.integers(0, 256, (1, 3, side, side), dtype=np.uint8))
        changed = lut.apply(picture, lut.equalize(lut.value_counts(picture)))
        assert torch.equal(changed, with_pillow(picture, ImageOps.equalize))


@pytest.mark.parametrize("factor", [0, 0.3, 0.5, 1, 1.2, 3.9])
def test_brightness_is_pillows_but_rounded_where_pillow_cuts_off(
    batch: Tensor, factor: float
) -> None:
    changed = lut.apply(batch, lut.scale_and_shift(repeated(factor, batch), repeated(0, batch)))

    pillow = with_pillow(batch, lambda picture: ImageEnhance.Brightness(picture).enhance(factor))
    excess = changed.int() - pillow.int()
    assert set(excess.unique().tolist()) <= {0, 1}
    exact = (batch.double() * factor).clamp(0, 255)
    assert float((changed.double() - exact).abs().max()) <= 0.5 + 1e-4


def test_scale_and_shift_takes_a_value_for_each_channel() -> None:
    factor = torch.tensor([[1.0, 2.0, 0.5], [1.0, 1.0, 1.0]])
    offset = torch.tensor([[0.0, -10.0, 30.0], [0.0, 300.0, -300.0]])

    table = lut.scale_and_shift(factor, offset)

    for row in range(2):
        for channel in range(3):
            exact = VALUES * float(factor[row, channel]) + float(offset[row, channel])
            expected = np.rint(exact.clip(0, 255))
            np.testing.assert_array_equal(table[row, channel].numpy(), expected)


def test_gamma_is_numpys() -> None:
    exponents = np.array([[0.5, 1.0, 2.0], [0.77, 1.3, 1.9]], np.float32)

    table = lut.gamma(torch.from_numpy(exponents))

    expected = 255 * (VALUES / 255) ** exponents.astype(np.float64)[:, :, None]
    assert_whole(table)
    assert np.abs(table.numpy() - expected).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(table[0, 1].numpy(), VALUES)


@pytest.mark.parametrize("cutoff", [0, 1, 2, 5, 10, 20, 49])
def test_autocontrast_is_pillows_but_for_its_rounding(batch: Tensor, cutoff: float) -> None:
    changed = lut.apply(batch, lut.autocontrast(lut.value_counts(batch), repeated(cutoff, batch)))

    # Pillow multiplies by a rounded 255 / spread and then drops the fraction, so a whole result
    # may come out one level too dark.
    pillow = with_pillow(batch, lambda picture: ImageOps.autocontrast(picture, cutoff))
    assert set((changed.int() - pillow.int()).unique().tolist()) <= {0, 1}
    assert float((changed != pillow).float().mean()) < 0.02


def test_autocontrast_is_exact_for_every_pair_of_ends() -> None:
    lowest, highest = np.triu_indices(256, 1)
    for chunk in np.array_split(np.arange(len(lowest)), 4):
        low, high = lowest[chunk], highest[chunk]
        counts = torch.zeros(len(chunk), 3, 256)
        counts[np.arange(len(chunk)), :, low] = 5
        counts[np.arange(len(chunk)), :, high] = 7

        table = lut.autocontrast(counts, torch.zeros(len(chunk)))[:, 0].numpy()

        stretched = (VALUES - low[:, None]) * 255 // (high - low)[:, None]
        np.testing.assert_array_equal(table, stretched.clip(0, 255))


def test_autocontrast_leaves_out_the_share_of_the_pixels_asked() -> None:
    # 100 pixels: 10 of value 40, then 80 between 100 and 150, then 10 of value 240.
    values = np.repeat([40, 100, 150, 240], [10, 40, 40, 10]).astype(np.uint8)
    picture = torch.from_numpy(values).view(1, 1, 10, 10).expand(1, 3, 10, 10)
    counts = lut.value_counts(picture)

    def ends(cutoff: float) -> list[int]:
        table = lut.autocontrast(counts, torch.tensor([cutoff]))
        return lut.apply(picture, table)[0, 0].flatten()[[0, 20, 60, 99]].int().tolist()

    assert ends(0) == [0, 60 * 255 // 200, 110 * 255 // 200, 255]
    assert ends(9) == ends(0)
    assert ends(10) == [0, 0, 255, 255]


@pytest.mark.parametrize("operation", ["autocontrast", "equalize"])
def test_plain_pictures_stay_as_they_are(operation: str) -> None:
    plain = torch.full((1, 3, 6, 6), 90, dtype=torch.uint8)
    counts = lut.value_counts(plain)

    table = (
        lut.equalize(counts)
        if operation == "equalize"
        else lut.autocontrast(counts, torch.tensor([7.0]))
    )

    assert torch.equal(table, lut.identity(1))


def test_tables_compose() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 9, 8), generator=generator, dtype=torch.uint8)
    first = lut.posterize(torch.tensor([3.0, 5.0, 7.0]))
    second = lut.scale_and_shift(torch.tensor([1.4, 0.6, 1.1]), torch.tensor([-9.0, 3.0, 0.0]))

    at_once = lut.apply(images, second.gather(2, first.long()))

    assert torch.equal(at_once, lut.apply(lut.apply(images, first), second))
    assert not torch.equal(at_once, lut.apply(lut.apply(images, second), first))


def test_counts_without_waiting_for_the_device_are_the_same(batch: Tensor) -> None:
    values = batch.flatten(0, 1).flatten(1)

    assert torch.equal(lut._scattered(values), lut._bins(values))


def test_value_counts_are_numpys(batch: Tensor) -> None:
    counts = lut.value_counts(batch)

    assert counts.shape == (len(batch), 3, 256)
    for row, channel in np.ndindex(len(batch), 3):
        expected = np.bincount(batch[row, channel].numpy().ravel(), minlength=256)
        np.testing.assert_array_equal(counts[row, channel].numpy(), expected)


def test_counts_through_a_table_are_those_of_the_changed_images(batch: Tensor) -> None:
    table = lut.posterize(torch.arange(1.0, len(batch) + 1))

    counts = lut.remap_counts(lut.value_counts(batch), table)

    assert torch.equal(counts, lut.value_counts(lut.apply(batch, table)))


def test_identity_changes_nothing(batch: Tensor) -> None:
    assert torch.equal(lut.apply(batch, lut.identity(len(batch))), batch)
