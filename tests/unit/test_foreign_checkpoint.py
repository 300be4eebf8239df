from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from draem.errors import ModelFileError
from draem.foreign_checkpoint import read_checkpoint
from tests.support import Attack, legacy_pickle, plain_pickle, zip_pickle

PICKLERS = pytest.mark.parametrize("save", [zip_pickle, legacy_pickle, plain_pickle])


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.zeros(4, dtype=torch.int64)}


@PICKLERS
def test_a_checkpoint_runs_no_code(tmp_path: Path, save: Callable[[Path, object], None]) -> None:
    path, target = tmp_path / "model.pckl", tmp_path / "attacked"
    save(path, {"weight": torch.zeros(1), "attack": Attack(target)})
    with pytest.raises(ModelFileError, match="not a checkpoint that can be read safely"):
        read_checkpoint(path)
    assert not target.exists()


def test_the_attack_would_have_worked(tmp_path: Path) -> None:
    for number, save in enumerate((zip_pickle, legacy_pickle)):
        target = tmp_path / f"attacked-{number}"
        save(tmp_path / "model", Attack(target))
        torch.load(tmp_path / "model", weights_only=False)
        assert target.is_dir()


def test_a_checkpoint_is_read(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    for save in (zip_pickle, legacy_pickle):
        save(tmp_path / "c.pckl", state)
        read = read_checkpoint(tmp_path / "c.pckl")
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    "kept", [0, 1, 2, 50, 300, -40], ids=["empty", "1", "2", "50", "300", "all but 40"]
)
def test_a_damaged_checkpoint_is_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], kept: int
) -> None:
    for save in (zip_pickle, legacy_pickle):
        save(tmp_path / "c.pckl", state)
        (tmp_path / "c.pckl").write_bytes((tmp_path / "c.pckl").read_bytes()[:kept])
        with pytest.raises(ModelFileError, match="not a checkpoint that can be read safely"):
            read_checkpoint(tmp_path / "c.pckl")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}, {1: torch.zeros(1)}, None])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c.pckl")
    with pytest.raises(ModelFileError, match="does not hold a state dict"):
        read_checkpoint(tmp_path / "c.pckl")


def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")["a"].shape == (100_000,)
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as stored,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in stored.infolist():
            packed.writestr(part.filename, stored.read(part))
    with pytest.raises(ModelFileError, match="not a checkpoint that can be read safely"):
        read_checkpoint(tmp_path / "b.pt")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "c.pckl")
