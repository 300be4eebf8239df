"""The model file: weights as safetensors, everything else as JSON in its header. No pickle.

The only place that reads or writes weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draem.embedded import (
    EXPORTED,
    HashMismatchError,
    OtherFilesError,
    finish_replacement,
    read_embedded,
    warn_unverified,
    weights_file,
    write_embedded,
)
from draem.errors import MissingDependencyError, ModelFileError
from draem.files import replacing, write_bytes
from draem.model_card import ModelCard, parse_card

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "draem"
_HASH_KEY = "draem_sha256"
"""The metadata's entry for a hash of the card, which has the fingerprint of the weights."""
_DAMAGED_WEIGHTS = "the weights are damaged: they do not match"
_TORCH_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "BOOL": "bool",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
}
"""What torch calls the types that safetensors knows."""


def write_model(path: str | Path, state: Mapping[str, Tensor], card: ModelCard) -> ModelCard:
    """Write a model file, whole or not at all.

    Args:
        path: Where to; an existing file is replaced.
        state: The weights, from `state_dict()`.
        card: Everything else.

    Returns:
        The card with the weights' fingerprint.

    Raises:
        OutputError: The file cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    card = card.replace(fingerprint=weights_fingerprint(tensors))
    write_bytes(path, save(tensors, metadata=_metadata(card)))
    return card


def read_card(path: str | Path) -> ModelCard:
    """Read what a model file says of itself, without its weights and without torch.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's.
    """
    if Path(path).suffix.lower() in EXPORTED:
        return _exported_card(Path(path))
    with _opened(path, "numpy") as file:
        return _card_of(path, file)


def read_verified_card(path: str | Path) -> ModelCard:
    """Read what a model file says of itself and verify its weights, without torch.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's.
    """
    card = read_card(path)  # which verifies exported models by itself
    exported = Path(path).suffix.lower() in EXPORTED
    if not exported and _stored_fingerprint(Path(path)) != card.fingerprint:
        raise _damaged(path, _DAMAGED_WEIGHTS)
    return card


def read_model(path: str | Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """Read a model file and verify its weights against their fingerprint.

    Raises:
        ModelFileError: The file is missing, damaged or not one of draem's.
    """
    with _opened(path, "pt") as file:
        card = _card_of(path, file)
        tensors = _tensors(path, file)
    if weights_fingerprint(tensors) != card.fingerprint:
        raise _damaged(path, _DAMAGED_WEIGHTS)
    return card, tensors


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read weights that come with draem and that no model card describes.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    with _opened(path, "pt") as file:
        return _tensors(path, file)


def write_card(path: str | Path, card: ModelCard) -> None:
    """Replace what a model file says of itself; its weights stay as they are, to the byte.

    The file is written anew and renamed, so that a crash leaves the old one or the new one.

    Args:
        path: A model file; if it is a link, what it leads to.
        card: The file's own card with changes; its fingerprint must be that of the weights.

    Raises:
        ModelFileError: The file is missing, damaged, of a kind that holds no card, or holds other
            weights.
        OutputError: The file cannot be written.
    """
    path = Path(path)
    writer = _CARD_WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ModelFileError(
            "nothing can be stored in this kind of file",
            path=path,
            expected=f"a model file that ends in {', '.join(_CARD_WRITERS)}",
        )
    held = read_card(path).fingerprint
    if held != card.fingerprint:
        raise ModelFileError(
            "the file holds another model than the one whose card is to be stored",
            path=path,
            expected=f"weights of fingerprint {card.fingerprint}",
            found=held,
            hint="It may have been replaced in the meantime; run the command again",
        )
    writer(path.resolve(), card)


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes and values that does not depend on the order of the names.

    Returns:
        16 hexadecimal digits.
    """
    import torch

    def described(name: str) -> tuple[str, str, tuple[int, ...], bytes]:
        values = state[name].detach().cpu().contiguous()
        # NumPy lacks some of torch's types, such as bfloat16, but not their bytes.
        content = values.reshape(-1).view(torch.uint8).numpy().tobytes()
        return name, str(values.dtype), tuple(values.shape), content

    return _fingerprint(map(described, sorted(state)))


def _stored_fingerprint(path: Path) -> str:
    """What `weights_fingerprint` would say of the weights in a valid `.safetensors` file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)

        def described(name: str) -> tuple[str, str, tuple[int, ...], bytes]:
            begin, end = header[name]["data_offsets"]
            file.seek(8 + length + begin)
            kind = _TORCH_TYPES.get(header[name]["dtype"], "")
            return name, f"torch.{kind}", tuple(header[name]["shape"]), file.read(end - begin)

        return _fingerprint(map(described, sorted(header)))


def _fingerprint(tensors: Iterable[tuple[str, str, tuple[int, ...], bytes]]) -> str:
    digest = hashlib.sha256()
    for name, kind, shape, content in tensors:
        digest.update(f"{name} {kind} {shape}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _write_safetensors_card(path: Path, card: ModelCard) -> None:
    """A new header before the old weights: their places are counted from the header's end."""
    with path.open("rb") as file, replacing(path) as temporary:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header["__metadata__"] |= _metadata(card)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with temporary.open("wb") as written:
            written.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(file, written)


def _write_exported_card(path: Path, card: ModelCard) -> None:
    write_embedded(path, card.model_dump_json())


_CARD_WRITERS: dict[str, Callable[[Path, ModelCard], None]] = {
    ".safetensors": _write_safetensors_card,
    **dict.fromkeys(EXPORTED, _write_exported_card),
}


def check_exists(path: Path) -> None:
    """Refuse a path where there is no file.

    Raises:
        ModelFileError: There is none.
    """
    if path.is_file():
        return
    exported = path.suffix.lower() in EXPORTED
    raise ModelFileError(
        "this is a folder without a model" if path.is_dir() else "there is no such model",
        path=path,
        expected=f"a file written by {'`draem export`' if exported else 'draem'}",
        hint="If this is an unfinished run, finish it with `draem train` and --resume"
        if path.is_dir()
        else None,
    )


def _tensors(path: str | Path, file: Any) -> dict[str, Tensor]:
    from safetensors import SafetensorError

    try:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ModelFileError(
            "this file has weights of a kind that torch cannot read", path=path, found=str(error)
        ) from error


def _opened(path: str | Path, framework: str) -> Any:
    path = Path(path)
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "reading a .safetensors model needs safetensors",
            hint="Install it with: pip install 'draem[train]'",
        ) from error
    check_exists(path)
    try:
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        found, hint = _diagnosis(path)
        raise ModelFileError(
            "this is not a model that draem can read",
            path=path,
            expected="a .safetensors file written by draem",
            found=found,
            hint=hint,
        ) from error


def _exported_card(path: Path) -> ModelCard:
    check_exists(path)
    finish_replacement(path)
    weights = weights_file(path)
    if weights is not None and not weights.is_file():
        raise ModelFileError(
            "this model's weights, the second file that `draem export` wrote, are missing",
            path=path,
            expected=f"{weights.name} next to it",
            hint="Copy both files",
        )
    try:
        text = read_embedded(path)
    except HashMismatchError as error:
        raise _damaged(path, "the model is damaged: it does not match") from error
    except OtherFilesError as error:
        raise ModelFileError(
            "this model is not whole in its file, so damage would not be noticed",
            path=path,
            expected=f"a {path.suffix} file as `draem export` wrote it",
            found=str(error),
            hint="Export the model again",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(
            "this is not a model that draem can read",
            path=path,
            expected=f"a {path.suffix} file written by `draem export`",
            found=f"a damaged file or one of another kind ({error})",
            hint="Copy the file again, or export the model again",
        ) from error
    if text is None:
        raise ModelFileError(
            "this file is damaged, or `draem export` did not write it",
            path=path,
            expected=f"a `{_KEY}` entry in its metadata",
            hint="Copy the file again, or export the model again",
        )
    return parse_card(path, text)


def _damaged(path: str | Path, problem: str) -> ModelFileError:
    return ModelFileError(
        f"{problem} the fingerprint in the file",
        path=path,
        hint="Copy the file again from where it was made",
    )


def _metadata(card: ModelCard) -> dict[str, str]:
    text = card.model_dump_json()
    return {_KEY: text, _HASH_KEY: _digest(text)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _card_of(path: str | Path, file: Any) -> ModelCard:
    held = file.metadata() or {}
    text, digest = held.get(_KEY), held.get(_HASH_KEY)
    if text is None:
        raise ModelFileError(
            "this model was not written by draem",
            path=path,
            expected=f"a `{_KEY}` entry in its metadata",
        )
    if digest is None:
        warn_unverified(path)
    elif digest != _digest(text):
        raise _damaged(path, "what the file says of its model is damaged: it does not match")
    return parse_card(path, text)


def _diagnosis(path: Path) -> tuple[str, str]:
    """What a file that is no model seems to be, and what to do about it."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})", "Check its permissions"
    if head[:1] == b"\x80" or head == b"PK\x03\x04":
        return (
            "a pickle or PyTorch checkpoint, which could run code and is never opened",
            "If it is a checkpoint of the published DRAEM, use `draem import-upstream`",
        )
    return (
        "a damaged file or one of another kind" if head else "an empty file",
        "Copy the file again, or train a model with `draem train`",
    )
