"""Devices, their precision and their memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

import draem.networks
from draem.errors import InputError, OutOfMemoryError


def set_threads(threads: int) -> None:
    """Let torch use so many CPU threads; a forked process keeps to one, see `draem.networks`."""
    if not draem.networks.forked:
        torch.set_num_threads(threads)


@contextmanager
def explained_fork() -> Iterator[None]:
    """Turn torch's refusal of a GPU that the parent process has used into an error of ours.

    Raises:
        InputError: The process was forked from one that uses the GPU.
    """
    try:
        yield
    except RuntimeError as error:
        if "forked subprocess" not in str(error):
            raise
        raise InputError(
            "a forked process cannot use the GPU that its parent uses",
            hint="Start processes by `spawn` or `forkserver`, or load the model with device='cpu'",
        ) from error


def resolve_device(name: str) -> torch.device:
    """The torch device of a name.

    Args:
        name: `auto` (a CUDA GPU if there is one, otherwise the CPU), `cpu`, `cuda`, `cuda:1`.

    Raises:
        InputError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    gpus = torch.cuda.device_count()
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < gpus):
        return device
    available = ["auto", "cpu", *(f"cuda:{index}" for index in range(gpus))]
    raise InputError(
        f"there is no device `{name}` on this machine",
        expected="one of " + ", ".join(available),
    )


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has matrix units for bfloat16, so that autocast makes it faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older torch cannot tell; float32 is always right.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep a GPU's convolutions from rounding their inputs to 10 bits (TF32), torch's default.

    A threshold is used on other devices than the one it was computed on, so scores must agree.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def explained_memory(hint: str) -> Iterator[None]:
    """Turn out-of-memory errors of GPU and CPU into one that says what to do.

    Args:
        hint: What needs less memory.

    Raises:
        OutOfMemoryError: The code within needs more memory than there is.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError("there is not enough memory for this", hint=hint) from error
    except RuntimeError as error:
        # torch has no error of its own for the CPU's memory.
        if "allocate memory" not in str(error):
            raise
        raise OutOfMemoryError("there is not enough memory for this", hint=hint) from error
