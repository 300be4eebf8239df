from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from draem.errors import ImageSizeError, InputError, ModelFileError
from draem.inspection.torch_runtime import fold_batch_norm, load_torch_runtime
from draem.inspection.torch_scoring import anomaly_maps
from draem.model_card import ModelCard
from draem.model_file import write_model
from draem.networks.model import Draem
from tests.support import model_card, small_draem


def with_random_statistics(seed: int) -> Draem:
    network = small_draem(4, 4, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            with torch.no_grad():
                part.weight.uniform_(0.5, 2, generator=generator)
                part.bias.normal_(0, 0.5, generator=generator)
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.01, 2, generator=generator)
    return network.eval()


@pytest.mark.parametrize("seed", range(3))
def test_a_folded_network_computes_the_same(seed: int) -> None:
    network = with_random_statistics(seed)
    folded = copy.deepcopy(network)
    fold_batch_norm(folded)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected, found = network(images), folded(images)
    assert expected.mask_logits.std() > 1e-3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_folding_leaves_what_it_cannot_merge() -> None:
    parts = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
    fold_batch_norm(parts)
    assert [type(part) for part in parts] == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]


@pytest.mark.parametrize(
    "wrong",
    [
        {"reconstructive_width": 8},
        {"reconstructive_width": 0},
        {"discriminative_width": 2},
        {"architecture": "compact", "network": "published"},
    ],
)
def test_weights_that_do_not_fit_the_card_are_refused(
    tmp_path: Path, write_tiny_model: Callable[..., ModelCard], wrong: dict[str, int]
) -> None:
    path = tmp_path / "m.safetensors"
    write_tiny_model(path, **wrong)
    with pytest.raises(ModelFileError, match="do not fit the network") as raised:
        load_torch_runtime(path, "cpu")
    assert raised.value.path == path


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.int32])
def test_weights_of_another_type_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    state = small_draem(4, 4).state_dict()
    name = next(name for name in state if name.endswith("weight"))
    write_model(tmp_path / "m.safetensors", {**state, name: state[name].to(kind)}, model_card())
    with pytest.raises(ModelFileError, match=f"`{name}`.*float32.*{kind}") as raised:
        load_torch_runtime(tmp_path / "m.safetensors", "cpu")
    assert raised.value.path == tmp_path / "m.safetensors"


@pytest.mark.parametrize("size", [(48, 64), (0, 0), (64, -32)])
def test_an_image_size_that_the_network_cannot_take_is_refused_at_once(
    tmp_path: Path, write_tiny_model: Callable[..., ModelCard], size: tuple[int, int]
) -> None:
    write_tiny_model(tmp_path / "m.safetensors", image_size=size)
    with pytest.raises(ImageSizeError, match="multiples of 32"):
        load_torch_runtime(tmp_path / "m.safetensors", "cpu")


def test_a_compact_model_file_runs_as_the_network_in_it(tmp_path: Path) -> None:
    network = small_draem(4, 4, "compact").eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    card = model_card(architecture="compact", image_size=(64, 32))
    write_model(tmp_path / "m.safetensors", network.state_dict(), card)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), np.uint8)

    read, runtime = load_torch_runtime(tmp_path / "m.safetensors", "cpu")
    output = runtime.run(images)

    assert read.network.architecture == "compact"
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        expected = anomaly_maps(network(pixels).mask_logits)[:, 0].numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(output.anomaly_maps, expected, atol=1e-5)


def test_loading_reads_no_global_random_state(tiny_model: Path) -> None:
    before = torch.random.get_rng_state()
    load_torch_runtime(tiny_model, "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("device", ["gpu", "tpu:0", "cuda:99", "meta", ""])
def test_an_unknown_device_is_refused_with_those_there_are(tiny_model: Path, device: str) -> None:
    with pytest.raises(InputError, match="one of auto, cpu"):
        load_torch_runtime(tiny_model, device)
