"""The text that an exported model carries inside its file: ONNX, OpenVINO's XML and MNN.

Read and written on the bytes of the file, so that neither needs the library that runs the model:
a threshold can be stored on the line's computer.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from draem.files import write_bytes

EXPORTED = (".onnx", ".xml", ".mnn")
"""Suffixes of the files that `draem export` writes."""
_KEY = "draem"
_METADATA = 14
"""Number of ONNX's field `metadata_props` in a model."""
_LENGTH = 2
"""Protobuf's wire type of a field that begins with its length."""
_MARK = b"draemcrd"
"""Ends an MNN file that carries a text; flatbuffers ignore what follows them."""


def read_embedded(path: Path) -> str | None:
    """The text that an exported model carries; None where it carries none.

    Raises:
        ValueError: The file is damaged or not of the kind that its suffix says.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    if path.suffix.lower() == ".onnx":
        return _read_onnx(data)
    return _read_xml(data) if path.suffix.lower() == ".xml" else _read_mnn(data)


def write_embedded(path: Path, text: str) -> None:
    """Put a text into an exported model in place of what it carries; whole or not at all.

    Raises:
        ValueError: The file is damaged or not of the kind that its suffix says.
        OSError: It cannot be read.
        OutputError: It cannot be written.
    """
    data = path.read_bytes()
    if path.suffix.lower() == ".onnx":
        changed = _with_onnx(data, text)
    elif path.suffix.lower() == ".xml":
        changed = _with_xml(data, text)
    else:
        changed = _without_mnn(data) + _mnn_trailer(text)
    write_bytes(path, changed)


def _read_onnx(data: bytes) -> str | None:
    for number, _, content in _fields(data):
        entry = _entry(content) if number == _METADATA else {}
        if entry.get(1) == _KEY.encode():
            return entry.get(2, b"").decode()
    return None


def _with_onnx(data: bytes, text: str) -> bytes:
    kept = [
        whole
        for number, whole, content in _fields(data)
        if number != _METADATA or _entry(content).get(1) != _KEY.encode()
    ]
    entry = _field(1, _KEY.encode()) + _field(2, text.encode())
    return b"".join([*kept, _field(_METADATA, entry)])


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


def _read_xml(data: bytes) -> str | None:
    entry = _parsed(data).find(f"rt_info/{_KEY}")
    return None if entry is None else entry.get("value")


def _with_xml(data: bytes, text: str) -> bytes:
    root = _parsed(data)
    info = root.find("rt_info")
    if info is None:
        info = ET.SubElement(root, "rt_info")
    entry = info.find(_KEY)
    if entry is None:
        entry = ET.SubElement(info, _KEY)
    entry.set("value", text)
    changed: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return changed


def _parsed(data: bytes) -> ET.Element:
    try:
        return ET.fromstring(data)
    except ET.ParseError as error:
        raise ValueError(str(error)) from error


def _read_mnn(data: bytes) -> str | None:
    body = _without_mnn(data)
    return data[len(body) : -8 - len(_MARK)].decode() if len(body) < len(data) else None


def _without_mnn(data: bytes) -> bytes:
    if not data.endswith(_MARK):
        return data
    end = len(data) - len(_MARK) - 8
    length = int.from_bytes(data[end : end + 8], "little") if end >= 0 else -1
    if not 0 <= length <= end:
        raise ValueError("the file ends within its description")
    return data[: end - length]


def _mnn_trailer(text: str) -> bytes:
    content = text.encode()
    return content + len(content).to_bytes(8, "little") + _MARK
