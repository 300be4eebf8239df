"""The case in tests/data/upstream_case.npz was recorded with the published network definitions.

Narrow networks (widths 3 and 2) with random weights and batch-normalisation statistics, in
evaluation mode, were given random images with their channels turned to BGR, the reconstruction
first in the joined input. Stored are the state dicts with their published names, the images and the
outputs, the latter two turned to RGB.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import draem
from draem.errors import ImageSizeError, ModelFileError
from draem.model_file import read_card, read_model
from draem.networks.model import Draem
from draem.networks.upstream import convert_upstream, import_upstream
from tests.support import network_config

CASE = Path(__file__).parents[2] / "data" / "upstream_case.npz"

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def case() -> dict[str, Tensor]:
    with np.load(CASE) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def state_of(case: dict[str, Tensor], part: str) -> State:
    return {
        name.removeprefix(part + "/"): value.clone()
        for name, value in case.items()
        if name.startswith(part + "/")
    }


@pytest.fixture
def states(case: dict[str, Tensor]) -> tuple[State, State]:
    return state_of(case, "reconstructive"), state_of(case, "discriminative")


@pytest.fixture
def pair(states: tuple[State, State], tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "run.pckl", tmp_path / "run_seg.pckl"
    for path, state in zip(paths, states, strict=True):
        torch.save(state, path)
    return paths


def test_an_imported_model_computes_what_the_published_one_does(
    case: dict[str, Tensor], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"

    import_upstream(*pair, out, image_size=(32, 64))

    card, state = read_model(out)
    model = Draem(
        network_config(card.network.reconstructive_width, card.network.discriminative_width)
    )
    model.load_state_dict(state)
    # In float64 the rounding of the recorded float32 outputs is all that is left; logits near 5
    # were recorded up to 1.1e-5 off.
    with torch.no_grad():
        output = model.eval().double()(case["images"].double())
    for ours, recorded in zip(output, (case["reconstruction"], case["mask_logits"]), strict=True):
        torch.testing.assert_close(ours, recorded.double(), atol=1e-5, rtol=1e-5)


def test_the_case_can_tell_channels_and_images_apart(
    case: dict[str, Tensor], states: tuple[State, State]
) -> None:
    weights = convert_upstream(*states)
    model = Draem(weights.network)
    model.load_state_dict(weights.state)
    model.eval()
    with torch.no_grad():
        turned = model(case["images"].flip(1))

    assert float((turned.reconstruction - case["reconstruction"]).abs().max()) > 0.1
    assert float((turned.mask_logits - case["mask_logits"]).abs().max()) > 0.1
    assert float(case["reconstruction"].std()) > 0.1
    assert float(case["mask_logits"].std()) > 0.1


def test_the_card_says_where_the_model_comes_from(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"

    card = draem.import_upstream(*pair, out)

    assert card == read_card(out)
    assert card.preset == "upstream"
    assert (card.network.reconstructive_width, card.network.discriminative_width) == (3, 2)
    assert card.network.image_size == (256, 256)
    assert card.calibration is None
    assert card.fingerprint
    assert set(card.versions) == {"draem", "torch"}


def test_converting_leaves_the_given_states(states: tuple[State, State]) -> None:
    before = [{name: value.clone() for name, value in state.items()} for state in states]

    convert_upstream(*states)

    for state, old in zip(states, before, strict=True):
        assert state.keys() == old.keys()
        assert all(torch.equal(state[name], old[name]) for name in state)


def test_every_weight_is_used_once(states: tuple[State, State]) -> None:
    weights = convert_upstream(*states)

    assert len(weights.state) == len(states[0]) + len(states[1])
    given = sum(float(value.double().sum()) for state in states for value in state.values())
    converted = sum(float(value.double().sum()) for value in weights.state.values())
    assert converted == pytest.approx(given)


def test_swapped_files_are_refused_with_the_right_order(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"

    with pytest.raises(ModelFileError, match=r"NAME\.pckl\) first .*NAME_seg\.pckl\) second"):
        import_upstream(*reversed(pair), out)

    assert not out.exists()


def test_the_same_file_twice_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"encoder_segment\.block1\.0\.weight"):
        import_upstream(pair[0], pair[0], tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("part", "missing", "named"),
    [
        (0, "encoder.block3.3.bias", "reconstructive.encoder.stages.2.1.0.bias"),
        (0, "decoder.fin_out.0.weight", "reconstructive.head.weight"),
        (1, "decoder_segment.up_b.1.weight", "discriminative.upwards.0.unit.0.weight"),
        (1, "decoder_segment.db4.4.running_var", "discriminative.stages.4.1.1.running_var"),
    ],
)
def test_a_missing_layer_is_named(
    states: tuple[State, State], part: int, missing: str, named: str
) -> None:
    del states[part][missing]

    with pytest.raises(ModelFileError) as caught:
        convert_upstream(*states)

    assert "Found 1 missing, unknown or of another shape" in str(caught.value)
    assert f"`{named}`" in str(caught.value)


def test_an_unknown_layer_is_named(states: tuple[State, State]) -> None:
    states[1]["decoder_segment.extra.weight"] = torch.zeros(3)

    with pytest.raises(ModelFileError, match=r"discriminative\.decoder_segment\.extra\.weight"):
        convert_upstream(*states)


def test_a_layer_of_another_shape_is_named(states: tuple[State, State]) -> None:
    states[0]["encoder.block2.0.weight"] = torch.zeros(6, 4, 3, 3)

    with pytest.raises(ModelFileError, match=r"encoder\.stages\.1\.0\.0\.weight"):
        convert_upstream(*states)


@pytest.mark.parametrize("weight", [torch.zeros(3), torch.zeros(2, 4, 3, 3)])
def test_a_first_layer_of_another_kind_is_refused(
    states: tuple[State, State], weight: Tensor
) -> None:
    states[0]["encoder.block1.0.weight"] = weight

    with pytest.raises(ModelFileError, match="takes 3 channels"):
        convert_upstream(*states)


class Intruder:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("position", [0, 1])
def test_code_in_a_checkpoint_is_not_run(
    pair: tuple[Path, Path], tmp_path: Path, position: int
) -> None:
    trace = tmp_path / "trace"
    torch.save({"encoder.block1.0.weight": Intruder(trace)}, pair[position])

    with pytest.raises(ModelFileError) as caught:
        import_upstream(*pair, tmp_path / "model.safetensors")

    assert caught.value.path == pair[position]
    assert not trace.exists()


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("content", ["text", "empty", "list", "numbers", "missing", "folder"])
def test_anything_but_a_state_dict_is_refused_by_name(
    pair: tuple[Path, Path], tmp_path: Path, content: str, position: int
) -> None:
    path = pair[position]
    path.unlink()
    if content == "text":
        path.write_text("These are no weights.\n")
    elif content == "empty":
        path.touch()
    elif content == "list":
        torch.save([torch.zeros(2)], path)
    elif content == "numbers":
        torch.save({"epoch": 3}, path)
    elif content == "folder":
        path.mkdir()

    with pytest.raises(ModelFileError) as caught:
        import_upstream(*pair, tmp_path / "model.safetensors")

    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_damaged_checkpoint_is_refused_by_name(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copy(pair[0], tmp_path / "whole.pckl")
    pair[0].write_bytes((tmp_path / "whole.pckl").read_bytes()[:5000])

    with pytest.raises(ModelFileError) as caught:
        import_upstream(*pair, tmp_path / "model.safetensors")

    assert caught.value.path == pair[0]


def test_a_size_that_does_not_suit_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ImageSizeError, match="Use 256x256 or 224x256"):
        import_upstream(*pair, tmp_path / "model.safetensors", image_size=(250, 256))
