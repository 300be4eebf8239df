from __future__ import annotations

from pathlib import Path

import pytest
import torch

from draem.errors import OutputError, TrainingError
from draem.training.checkpoint import FORMAT, read_checkpoint, write_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert read_checkpoint(path) is None
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    write_checkpoint(path, {"step": 3, "network": {"weight": weights}})

    read = read_checkpoint(path)

    assert read is not None
    assert (read["format"], read["step"]) == (FORMAT, 3)
    assert torch.equal(read["network"]["weight"], weights)
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"damaged.*Delete it.*--resume") as raised:
        read_checkpoint(path)
    assert raised.value.path == path


@pytest.mark.parametrize("state", [{"state_dict": {}, "global_step": 4}, {"format": 3}, [1]])
def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, state: object) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(state, path)
    with pytest.raises(TrainingError, match=r"another version of draem.*Finish the run"):
        read_checkpoint(path)


def test_a_full_disk_is_explained_and_the_old_checkpoint_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, {"step": 3})

    def fail(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 128 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OutputError, match=r"last\.ckpt: cannot be written.*Make room"):
        write_checkpoint(path, {"step": 4})
    monkeypatch.undo()
    read = read_checkpoint(path)
    assert read is not None
    assert read["step"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
