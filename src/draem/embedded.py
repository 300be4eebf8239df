"""The text stored inside an exported model file: ONNX, OpenVINO's XML and MNN.

The bytes of the file are read and written directly, so no runtime library is needed: a threshold
can be stored on the line's computer. A hash of the rest of the file, and of OpenVINO's `.bin`, is
stored with the text, because no runtime notices damaged weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from draem.errors import DraemWarning, shown
from draem.files import delete_abandoned, held_open, refuse_link, replacing, write_bytes

EXPORTED = (".onnx", ".xml", ".mnn")
"""Suffixes of the files that `draem export` writes."""
_KEY = "draem"
_HASH_KEY = "draem_sha256"
_BLANK = "0" * 64
"""Placeholder of the hash while it is computed."""
_METADATA = 14
"""Field number of `metadata_props` in an ONNX model."""
_ONNX_PARTS = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""By kind of message, the fields through which an ONNX model leads to its tensors."""
_EXTERNAL = 13
_LOCATION = 14
"""Field numbers of `external_data` and `data_location` in an ONNX tensor."""
_LENGTH = 2
"""Protobuf's wire type of length-delimited fields."""
_MARK = b"draemcrd"
"""Ends an MNN file with a text; flatbuffers ignore bytes after their end."""
_HASHED_MARK = b"draemsha"
"""Ends an MNN file with a text and a hash."""


class OtherFilesError(ValueError):
    """The model has weights in further files, which its hash does not cover."""


class HashMismatchError(ValueError):
    """The file is not what it was when its hash was written into it."""


def read_embedded(path: Path) -> str | None:
    """The text stored in an exported model; None if there is none.

    A file without a hash, of an earlier version, is not verified, and a warning says so.

    Raises:
        HashMismatchError: The file, or the `.bin` next to it, has changed.
        OtherFilesError: It has weights in other files.
        ValueError: The file is damaged or not of the kind that its suffix says.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    if path.suffix.lower() == ".onnx":
        if _leads_elsewhere(data, "model"):
            raise OtherFilesError("some of its weights are in another file")
        text, found = _read_onnx(data)
    else:
        text, found = _read_xml(data) if path.suffix.lower() == ".xml" else _read_mnn(data)
    # MNN looks for weights in a file of this name.
    if path.suffix.lower() == ".mnn" and path.with_name(f"{path.name}.weight").exists():
        raise OtherFilesError(f"some of its weights may be in {path.name}.weight")
    if found is not None and found != _hash(path, data, found):
        raise HashMismatchError("its content does not match the hash in it")
    if text is not None and found is None:
        warn_unverified(path)
    return text


def warn_unverified(path: str | Path) -> None:
    """Warn that nothing tells whether a model file is as it was written."""
    warnings.warn(
        f"{shown(path)}: an earlier draem wrote this file, without a hash of its model card. "
        "Damage to the threshold would not be noticed. `draem calibrate` adds the hash.",
        DraemWarning,
        stacklevel=2,
    )


def write_embedded(path: Path, text: str) -> None:
    """Store a text in an exported model in place of the one before; whole or not at all.

    Raises:
        ValueError: The file is damaged or not of the kind that its suffix says.
        OSError: It cannot be read.
        OutputError: It cannot be written.
    """
    data = path.read_bytes()
    if path.suffix.lower() == ".onnx":
        embed = _with_onnx
    else:
        embed = _with_xml if path.suffix.lower() == ".xml" else _with_mnn
    digest = _hash(path, embed(data, text, _BLANK), _BLANK)
    write_bytes(path, embed(data, text, digest))


def weights_file(path: Path) -> Path | None:
    """The second file of an exported model: OpenVINO's weights; None for other formats."""
    return path.with_suffix(".bin") if path.suffix.lower() == ".xml" else None


def replace_exported(made: Path, target: Path) -> None:
    """Put an exported model in the place of another, so that a crash leaves the old or the new one.

    No system renames two files at once. So OpenVINO's weights are first stored under a name that
    only the new `.xml` leads to. The model has changed when the `.xml` is renamed; whoever reads it
    next finishes what a crash has interrupted.

    Args:
        made: The file; for OpenVINO its weights are next to it.
        target: Where to; an existing model is replaced.

    Raises:
        OutputError: It cannot be written.
    """
    weights, final = weights_file(made), weights_file(target)
    if weights is None or final is None:
        with replacing(target) as temporary:
            shutil.copyfile(made, temporary)
        return
    refuse_link(final)
    finish_replacement(target)
    waiting = _waiting_weights(target, str(_read_xml(made.read_bytes())[1]))
    with replacing(waiting) as temporary:
        shutil.copyfile(weights, temporary)
        if final.exists():
            shutil.copymode(final, temporary)
    with held_open(waiting):
        with replacing(target) as temporary:
            shutil.copyfile(made, temporary)
        finish_replacement(target)
    stem = re.escape(_waiting_stem(target))
    delete_abandoned(target.parent, re.compile(rf"{stem}[0-9a-f]{{16}}\.new"))


def finish_replacement(path: Path) -> None:
    """Finish what `replace_exported` was doing if it was killed before the weights had their name.

    Args:
        path: An exported model; there may be none.
    """
    weights = weights_file(path)
    with contextlib.suppress(OSError, ValueError):
        if weights is not None and (digest := _read_xml(path.read_bytes())[1]):
            _waiting_weights(path, digest).replace(weights)


def _waiting_weights(path: Path, digest: str) -> Path:
    """Where the weights of an `.xml` file with this hash wait for their name."""
    return path.with_name(f"{_waiting_stem(path)}{digest[:16]}.new")


def _waiting_stem(path: Path) -> str:
    # Shortened names of two models may be the same, their hashes are not.
    return f".{path.stem[:40]}.{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}."


def _hash(path: Path, data: bytes, held: str) -> str:
    """SHA-256 of the file, with its own hash blanked, and of the weights file."""
    view, place = memoryview(data), data.find(held.encode())
    digest = hashlib.sha256(view[:place])
    digest.update(_BLANK.encode())
    digest.update(view[place + len(held) :])
    weights = weights_file(path)
    if weights is not None and weights.is_file():
        with weights.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _read_onnx(data: bytes) -> tuple[str | None, str | None]:
    held: dict[str, str] = {}
    for number, _, content in _fields(data):
        if number == _METADATA:
            entry = _entry(content)
            held[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
    return held.get(_KEY), held.get(_HASH_KEY)


def _with_onnx(data: bytes, text: str, digest: str) -> bytes:
    ours = {_KEY: text, _HASH_KEY: digest}
    kept = [
        whole
        for number, whole, content in _fields(data)
        if number != _METADATA or _entry(content).get(1, b"").decode() not in ours
    ]
    entries = (_field(1, key.encode()) + _field(2, value.encode()) for key, value in ours.items())
    return b"".join([*kept, *(_field(_METADATA, entry) for entry in entries)])


def _leads_elsewhere(data: bytes | memoryview, kind: str) -> bool:
    """Whether a part of an ONNX model has tensors whose values are in another file.

    Source:
        https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    """
    parts = _ONNX_PARTS[kind]
    for number, _, content in _fields(data):
        if number in parts:
            if _leads_elsewhere(content, parts[number]):
                return True
        elif kind == "tensor" and (number == _EXTERNAL or (number == _LOCATION and any(content))):
            return True
    return False


def _entry(content: memoryview) -> dict[int, bytes]:
    return {number: bytes(value) for number, _, value in _fields(content)}


def _fields(data: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, all bytes and content of each field of a protobuf message.

    Source:
        Protocol Buffers, Encoding: https://protobuf.dev/programming-guides/encoding/
    """
    view, place = memoryview(data), 0
    while place < len(view):
        start = place
        tag, place = _varint(view, place)
        kind = tag & 7
        begin = place
        if kind == _LENGTH:
            length, begin = _varint(view, place)
            place = begin + length
        elif kind == 0:
            _, place = _varint(view, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError("an unknown kind of field")
        if place > len(view):
            raise ValueError("the file ends within a field")
        yield tag >> 3, view[start:place], view[begin:place]


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(view):
            raise ValueError("the file ends within a number")
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number is too long")


def _field(number: int, content: bytes) -> bytes:
    return _encoded(number << 3 | _LENGTH) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_xml(data: bytes) -> tuple[str | None, str | None]:
    entry = _parsed(data).find(f"rt_info/{_KEY}")
    return (None, None) if entry is None else (entry.get("value"), entry.get("sha256"))


def _with_xml(data: bytes, text: str, digest: str) -> bytes:
    root = _parsed(data)
    info = root.find("rt_info")
    if info is None:
        info = ET.SubElement(root, "rt_info")
    entry = info.find(_KEY)
    if entry is None:
        entry = ET.SubElement(info, _KEY)
    entry.set("value", text)
    entry.set("sha256", digest)
    changed: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return changed


def _parsed(data: bytes) -> ET.Element:
    try:
        return ET.fromstring(data)
    except (ET.ParseError, LookupError) as error:  # an encoding that nobody knows
        raise ValueError(str(error)) from error


def _read_mnn(data: bytes) -> tuple[str | None, str | None]:
    start, end = _mnn_text(data)
    if end == len(data):
        return None, None
    hashed = data.endswith(_HASHED_MARK)
    digest = data[end + 8 : -len(_HASHED_MARK)].decode() if hashed else None
    return data[start:end].decode(), digest


def _with_mnn(data: bytes, text: str, digest: str) -> bytes:
    content = text.encode()
    length = len(content).to_bytes(8, "little")
    return data[: _mnn_text(data)[0]] + content + length + digest.encode() + _HASHED_MARK


def _mnn_text(data: bytes) -> tuple[int, int]:
    """Start and end of the text; both at the file's end if there is none."""
    if data.endswith(_HASHED_MARK):
        end = len(data) - len(_HASHED_MARK) - len(_BLANK) - 8
    elif data.endswith(_MARK):
        end = len(data) - len(_MARK) - 8
    else:
        return len(data), len(data)
    length = int.from_bytes(data[end : end + 8], "little") if end >= 0 else -1
    if not 0 <= length <= end:
        raise ValueError("the file ends within its description")
    return end - length, end
