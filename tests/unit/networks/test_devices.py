from __future__ import annotations

import pytest
import torch

from draem.errors import InputError, OutOfMemoryError
from draem.networks.devices import (
    explained_fork,
    explained_memory,
    full_precision,
    multiplies_bf16,
    resolve_device,
)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    return count


@pytest.mark.parametrize(
    ("gpus", "name", "expected"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
    ],
    indirect=["gpus"],
)
def test_words_for_devices(gpus: int, name: str, expected: str) -> None:
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("gpus", "name"),
    [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2"), (2, "meta"), (0, "tpu"), (0, ""), (0, "cuda:x")],
    indirect=["gpus"],
)
def test_missing_devices_are_refused_with_those_that_exist(gpus: int, name: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_device(name)

    assert f"`{name}`" in str(caught.value)
    assert "auto, cpu" in str(caught.value)
    assert ("cuda:1" in str(caught.value).split("Expected")[1]) == (gpus == 2)


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_whether_bf16_is_native(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    # Emulated bfloat16, which any GPU has, gains nothing.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )

    assert multiplies_bf16(torch.device("cuda")) is native


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, True), ({"amx_bf16": False}, False), ({"avx512_bf16": True}, False)],
)
def test_a_cpu_needs_matrix_units_for_bf16(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    assert multiplies_bf16(torch.device("cpu")) is expected


def test_an_older_torch_that_cannot_tell_means_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)

    assert multiplies_bf16(torch.device("cpu")) is False


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_lack_of_memory_is_explained(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match="smaller batch"), explained_memory("smaller batch"):
        raise error


def test_full_precision_ends_where_it_was_asked_for() -> None:
    before = torch.backends.cudnn.allow_tf32
    with full_precision():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained_memory("smaller batch"):
        raise RuntimeError("shapes do not match")


def test_a_fork_that_cannot_use_its_parents_gpu_is_told_what_to_do() -> None:
    said = "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, ..."
    with pytest.raises(InputError, match="`spawn`"), explained_fork():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="another"), explained_fork():
        raise RuntimeError("another error")
