"""The scoring in NumPy, the scoring in torch and a slow one from its definition agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from draem.inspection import scoring, torch_scoring
from tests.reference.softmax import anomaly_maps
from tests.support import score_of, smoothed

SIZES = [(32, 32), (64, 96), (256, 256), (160, 32), (512, 384)]
LOGITS = {
    "random": 3.0,
    "small": 1e-4,
    "large": 100.0,
    "extreme": 1e38,
}


def torch_scores(maps: torch.Tensor, smoothing: float = 21) -> torch.Tensor:
    return torch_scoring.anomaly_scores(maps, scoring.filter_side(*maps.shape[2:], smoothing))


def logits_of(spread: float, size: tuple[int, int]) -> NDArray[np.float32]:
    values = np.random.default_rng(7).normal(0, 1, (3, 2, *size))
    return (np.clip(values, -3, 3) * spread).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", LOGITS.values(), ids=LOGITS)
def test_numpy_and_torch_agree(spread: float, size: tuple[int, int]) -> None:
    logits = logits_of(spread, size)
    ours = anomaly_maps(logits)
    theirs = torch_scoring.anomaly_maps(torch.from_numpy(logits))
    assert ours.shape == (3, *size)
    assert theirs.shape == (3, 1, *size)
    assert ours.dtype == np.float32
    assert ours.min() >= 0
    assert ours.max() <= 1
    np.testing.assert_allclose(theirs[:, 0].numpy(), ours, rtol=0, atol=1e-6)
    scores = [score_of(plane) for plane in ours]
    np.testing.assert_allclose(torch_scores(theirs).numpy(), scores, rtol=0, atol=1e-6)


def test_infinite_logits_are_certain() -> None:
    logits = np.zeros((1, 2, 32, 32), np.float32)
    logits[:, 1, :16], logits[:, 1, 16:] = np.inf, -np.inf
    expected = np.repeat([1.0, 0.0], 16)[:, None] * np.ones(32)
    assert (anomaly_maps(logits)[0] == expected).all()


@pytest.mark.parametrize(
    ("difference", "probability"), [(0.0, 0.5), (np.log(3), 0.75), (-np.log(3), 0.25), (-80, 1e-35)]
)
def test_the_map_is_the_softmax_of_the_second_class(difference: float, probability: float) -> None:
    logits = np.zeros((1, 2, 32, 32), np.float32)
    logits[:, 0], logits[:, 1] = 5, 5 + difference
    np.testing.assert_allclose(anomaly_maps(logits), probability, rtol=1e-5, atol=1e-34)
    torch_map = torch_scoring.anomaly_maps(torch.from_numpy(logits))
    np.testing.assert_allclose(torch_map.numpy(), probability, rtol=1e-5, atol=1e-34)


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits = torch.tensor([[0.0, 3.0]], dtype=torch.bfloat16).reshape(1, 2, 1, 1)
    maps = torch_scoring.anomaly_maps(logits)
    assert maps.dtype == torch.float32
    assert maps.item() == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-7)


def mean_filter(plane: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Every pixel's mean over its window, with zeros beyond the border."""
    half = side // 2
    padded = np.pad(plane.astype(np.float64), half)
    total = np.zeros(plane.shape)
    for down in range(side):
        for right in range(side):
            total += padded[down : down + plane.shape[0], right : right + plane.shape[1]]
    return total / side**2


@pytest.mark.parametrize(("size", "side"), [((256, 256), 21), ((32, 32), 3), ((64, 200), 5)])
def test_smoothing_is_a_mean_filter_with_zeros_beyond_the_border(
    size: tuple[int, int], side: int
) -> None:
    plane = np.random.default_rng(3).random(size).astype(np.float32)
    expected = mean_filter(plane, side)
    assert scoring.filter_side(*size) == side
    np.testing.assert_allclose(smoothed(plane), expected, rtol=0, atol=1e-6)
    assert score_of(plane) == pytest.approx(expected.max(), abs=1e-6)
    tensor = torch.from_numpy(plane)[None, None]
    assert torch_scores(tensor).item() == pytest.approx(expected.max(), abs=1e-6)


@pytest.mark.parametrize(("smoothing", "side"), [(1, 1), (9, 9), (10, 9), (42, 41)])
def test_a_model_may_have_a_filter_of_its_own(smoothing: int, side: int) -> None:
    plane = np.random.default_rng(4).random((256, 320)).astype(np.float32)
    expected = mean_filter(plane, side)
    assert scoring.filter_side(256, 320, smoothing) == side
    np.testing.assert_allclose(smoothed(plane, smoothing), expected, rtol=0, atol=1e-6)
    scores = torch_scores(torch.from_numpy(plane)[None, None], smoothing)
    assert score_of(plane, smoothing) == pytest.approx(expected.max(), abs=1e-6)
    assert scores.item() == pytest.approx(expected.max(), abs=1e-6)


def test_a_part_of_a_larger_array_is_smoothed_by_itself() -> None:
    large = np.ones((64, 64), np.float32)
    large[16:48, 16:48] = 0.25
    assert smoothed(large[16:48, 16:48]).max() == 0.25


@pytest.mark.parametrize("value", [0.0, 0.25, 0.7, 1.0])
def test_a_constant_map_scores_its_value(value: float) -> None:
    plane = np.full((256, 256), value, np.float32)
    filtered = smoothed(plane)
    assert score_of(plane) == np.float32(value)
    # A corner's window lies on the image by 11x11 of its 21x21 pixels, an edge's by 11x21.
    assert filtered[0, 0] == pytest.approx(value * 121 / 441, abs=1e-6)
    assert filtered[0, 128] == pytest.approx(value * 231 / 441, abs=1e-6)
    tensor = torch.from_numpy(plane)[None, None]
    assert torch_scores(tensor).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("place", [(0, 0), (128, 128), (255, 3)])
def test_one_hot_pixel_scores_one_over_the_window(place: tuple[int, int]) -> None:
    plane = np.zeros((256, 256), np.float32)
    plane[place] = 1
    assert score_of(plane) == pytest.approx(1 / 441, rel=1e-6)
    tensor = torch.from_numpy(plane)[None, None]
    assert torch_scores(tensor).item() == pytest.approx(1 / 441, rel=1e-6)


@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((256, 256), 21),
        ((512, 512), 41),
        ((1024, 256), 21),
        ((128, 128), 11),
        ((32, 32), 3),
        ((1, 1), 1),
    ],
)
def test_the_window_is_odd_and_in_proportion(size: tuple[int, int], side: int) -> None:
    assert scoring.filter_side(*size) == scoring.filter_side(*size[::-1]) == side
