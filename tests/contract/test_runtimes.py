"""What every runtime owes the Inspector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import draem
from draem.exporting.exporter import SUFFIXES, Format
from draem.inspection.mnn_runtime import load_mnn_runtime
from draem.inspection.onnx_runtime import load_onnx_runtime
from draem.inspection.openvino_runtime import load_openvino_runtime
from draem.inspection.runtime import Runtime
from draem.inspection.torch_runtime import load_torch_runtime
from draem.model_file import read_model
from draem.networks.model import Draem
from draem.simulation.textures import builtin_textures
from tests.support import score_of

LOADERS = {
    "onnx": load_onnx_runtime,
    "openvino": load_openvino_runtime,
    "mnn": load_mnn_runtime,
}


def torch_cpu(path: Path) -> Runtime:
    return load_torch_runtime(path, "cpu")[1]


def torch_cuda(path: Path) -> Runtime:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return load_torch_runtime(path, "cuda")[1]


@pytest.fixture(scope="module", params=[("published", 1), ("compact", 2)], ids=str)
def model(
    request: pytest.FixtureRequest,
    write_tiny_model: Callable[..., object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    shape, scales = request.param
    path = tmp_path_factory.mktemp(shape) / "model.safetensors"
    write_tiny_model(path, architecture=shape, scales=scales)
    return path


@pytest.fixture(scope="module", params=[torch_cpu, torch_cuda, *SUFFIXES])
def runtime(request: pytest.FixtureRequest, model: Path) -> Runtime:
    if request.param in (torch_cpu, torch_cuda):
        return request.param(model)
    to: Format = request.param
    exported = draem.export(model, to, reconstruction=True)
    assert exported.path == model.with_suffix(SUFFIXES[to])
    return LOADERS[to](exported.path, threads=1)[1]


@pytest.fixture(params=["noise", "photographs"])
def images(request: pytest.FixtureRequest) -> NDArray[np.uint8]:
    """Five images of which no two look alike to the network."""
    if request.param == "photographs":
        return builtin_textures((64, 64))[:5]
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (5, 64, 64, 3))
    return (noise * np.linspace(0, 1, 5)[:, None, None, None]).astype(np.uint8)


@pytest.fixture
def reference(model: Path) -> Callable[[NDArray[np.uint8]], tuple[NDArray, NDArray]]:
    """Maps and reconstructions by the published formula, from the network as it was trained."""
    card, state = read_model(model)
    network = Draem(card.network)
    network.load_state_dict(state)
    network.eval()

    def compute(images: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
        inputs = torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)
        with torch.no_grad():
            output = network(inputs)
        maps = torch.softmax(output.mask_logits, 1)[:, 1]
        return maps.numpy(), output.reconstruction.permute(0, 2, 3, 1).numpy()

    return compute


def test_the_output_has_the_promised_form(runtime: Runtime, images: NDArray[np.uint8]) -> None:
    output = runtime.run(images)
    assert output.anomaly_maps.shape == (5, 64, 64)
    assert output.anomaly_scores.shape == (5,)
    assert output.reconstructions.shape == images.shape
    assert output.anomaly_maps.dtype == output.anomaly_scores.dtype == np.float32
    assert output.reconstructions.dtype == np.uint8
    assert output.anomaly_maps.min() >= 0
    assert output.anomaly_maps.max() <= 1


def test_the_output_is_the_networks(
    runtime: Runtime,
    images: NDArray[np.uint8],
    reference: Callable[[NDArray[np.uint8]], tuple[NDArray, NDArray]],
) -> None:
    maps, reconstructions = reference(images)
    assert np.ptp(maps) > 0.1, "these images could not tell one runtime from another"
    output = runtime.run(images)
    np.testing.assert_allclose(output.anomaly_maps, maps, rtol=0, atol=1e-5)
    levels = np.clip(reconstructions, 0, 1) * 255
    assert np.abs(output.reconstructions - levels).max() <= 0.51


def test_the_score_is_that_of_the_map(runtime: Runtime, images: NDArray[np.uint8]) -> None:
    output = runtime.run(images)
    scores = [score_of(plane) for plane in output.anomaly_maps]
    assert np.ptp(scores) > 1e-3, "these images could not tell one score from another"
    np.testing.assert_allclose(output.anomaly_scores, scores, rtol=0, atol=1e-6)


def test_an_image_gets_the_same_result_in_any_batch(
    runtime: Runtime, images: NDArray[np.uint8]
) -> None:
    together = runtime.run(images)
    for row in range(len(images)):
        alone = runtime.run(images[row : row + 1])
        np.testing.assert_allclose(alone.anomaly_maps[0], together.anomaly_maps[row], atol=1e-5)
        np.testing.assert_allclose(alone.anomaly_scores[0], together.anomaly_scores[row], atol=1e-5)


def test_the_same_images_get_the_same_result(runtime: Runtime, images: NDArray[np.uint8]) -> None:
    first, second = runtime.run(images), runtime.run(images.copy())
    for one, other in zip(first, second, strict=True):
        assert (one == other).all()


def test_any_memory_layout_will_do_and_images_are_left_alone(
    runtime: Runtime, images: NDArray[np.uint8]
) -> None:
    expected = runtime.run(images).anomaly_maps
    blue_first = np.ascontiguousarray(images[..., ::-1])
    np.testing.assert_array_equal(runtime.run(blue_first[..., ::-1]).anomaly_maps, expected)
    columns_first = np.asfortranarray(images)
    np.testing.assert_array_equal(runtime.run(columns_first).anomaly_maps, expected)
    kept = images.copy()
    kept.flags.writeable = False
    np.testing.assert_array_equal(runtime.run(kept).anomaly_maps, expected)
    np.testing.assert_array_equal(kept, images)
