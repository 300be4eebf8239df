"""The warm start by what its file holds, never by how well it works."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from draem.errors import ModelFileError, RecipeError
from draem.model_file import read_card, read_model, write_model
from draem.training import warm_start
from draem.training.recipe import make_recipe
from draem.training.warm_start import WARM_START, check_warm_start, load_warm_start
from tests.support import small_draem


def preset_network(**changes: object) -> object:
    return make_recipe("compact", overrides={"network": changes}).resolve().network


def test_it_fits_the_preset() -> None:
    network = make_recipe("compact").network

    check_warm_start(network)

    card = read_card(WARM_START)
    assert (
        card.network.architecture,
        card.network.reconstructive_width,
        card.network.discriminative_width,
    ) == (
        *(network.architecture, network.reconstructive_width),
        network.discriminative_width,
    )
    assert card.calibration is None


def test_its_weights_arrive_as_they_are_stored() -> None:
    _, stored = read_model(WARM_START)
    network = small_draem(32, 16, "compact", seed=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    load_warm_start(network)

    state = network.state_dict()
    assert state.keys() == stored.keys()
    for name, value in stored.items():
        if value.is_floating_point():
            assert value.dtype == torch.float16, name
            assert state[name].dtype == torch.float32, name
            assert torch.equal(state[name], value.float()), name
        else:
            assert torch.equal(state[name], value), name
    convolutions = [name for name, value in state.items() if value.ndim == 4]
    assert not any(torch.equal(state[name], before[name]) for name in convolutions)


def test_what_it_gives_can_be_trained_and_is_not_shared() -> None:
    first, second = (small_draem(32, 16, "compact") for _ in range(2))
    load_warm_start(first)
    load_warm_start(second)

    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()

    assert all(parameter.requires_grad for parameter in second.parameters())
    assert any(bool(parameter.any()) for parameter in second.parameters())


def test_every_value_is_finite_and_no_variance_negative() -> None:
    _, stored = read_model(WARM_START)

    assert all(bool(torch.isfinite(value).all()) for value in stored.values())
    variances = [value for name, value in stored.items() if name.endswith("running_var")]
    assert variances
    assert all(bool((value >= 0).all()) for value in variances)


def test_it_is_small_enough_to_come_along() -> None:
    assert WARM_START.stat().st_size <= 15 * 2**20


def test_it_lies_in_the_package() -> None:
    assert WARM_START.parent == Path(warm_start.__file__).parent


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"reconstructive_width": 16}, "the architecture `compact` with widths 16 and 16"),
        ({"discriminative_width": 32}, "the architecture `compact` with widths 32 and 32"),
        ({"architecture": "published"}, "the architecture `published` with widths 32 and 16"),
        ({"reconstructive_width": 0}, "the architecture `compact` with widths 0 and 16"),
    ],
)
def test_other_networks_are_refused(changes: dict[str, object], found: str) -> None:
    with pytest.raises(RecipeError, match="does not fit this network") as raised:
        check_warm_start(preset_network(**changes))  # type: ignore[arg-type]

    assert raised.value.expected == "the architecture `compact` with widths 32 and 16"
    assert raised.value.found == found
    assert "--init scratch" in str(raised.value)


def test_size_and_interpolation_do_not_matter() -> None:
    check_warm_start(preset_network(image_size=(64, 96), interpolation="bilinear"))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, b"", b"half a file"])
def test_a_package_without_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = tmp_path / "warm-start.safetensors"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(warm_start, "WARM_START", path)

    with pytest.raises(ModelFileError, match=r"Install draem again.*--init scratch") as raised:
        check_warm_start(make_recipe("compact").network)

    assert raised.value.path == path
    with pytest.raises(ModelFileError):
        load_warm_start(small_draem(32, 16, "compact"))


def test_damaged_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "warm-start.safetensors"
    card, stored = read_model(WARM_START)
    write_model(path, stored, card)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(warm_start, "WARM_START", path)

    with pytest.raises(ModelFileError, match="weights are damaged"):
        load_warm_start(small_draem(32, 16, "compact"))
