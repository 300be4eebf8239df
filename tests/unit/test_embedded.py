from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from draem import embedded
from draem.embedded import EXPORTED, HashMismatchError, read_embedded, write_embedded
from draem.errors import DraemWarning, ModelFileError
from draem.model_file import read_card

TEXTS = ["{}", '{"a": "ä <&> \\" \'"}', "long " * 10_000]


def onnx_file(path: Path) -> Path:
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one",
        [values("x", TensorProto.FLOAT, [2])],
        [values("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"other": "kept"})
    onnx.save(model, path)
    return path


def xml_file(path: Path) -> Path:
    path.write_text(
        '<?xml version="1.0"?><net name="m"><layers /><rt_info><a value="b" />\n</rt_info></net>'
    )
    path.with_suffix(".bin").write_bytes(bytes(range(256)) * 8)
    return path


def mnn_file(path: Path) -> Path:
    path.write_bytes(bytes(range(256)))
    return path


MAKERS = {".onnx": onnx_file, ".xml": xml_file, ".mnn": mnn_file}


@pytest.fixture(params=EXPORTED)
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path / f"model{request.param}")


def test_a_fresh_file_carries_no_text(exported: Path) -> None:
    assert read_embedded(exported) is None


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_written_is_read(exported: Path, text: str) -> None:
    write_embedded(exported, "earlier")
    write_embedded(exported, text)
    assert read_embedded(exported) == text


def test_a_text_leaves_no_trace_of_the_earlier_one(exported: Path) -> None:
    write_embedded(exported, "short")
    size = exported.stat().st_size
    write_embedded(exported, "long" * 1000)
    write_embedded(exported, "short")
    assert exported.stat().st_size == size
    assert b"longlong" not in exported.read_bytes()


def test_onnx_runtime_reads_the_text_and_runs_the_model_as_before(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    write_embedded(path, "words")
    session = onnxruntime.InferenceSession(path)
    held = session.get_modelmeta().custom_metadata_map
    assert len(held.pop("draem_sha256")) == 64
    assert held == {"draem": "words", "other": "kept"}
    given = np.array([-1, 2], np.float32)
    assert session.run(None, {"x": given})[0].tolist() == [0, 2]


def test_onnx_itself_finds_the_model_valid(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    before = onnx.load(path)
    write_embedded(path, "words" * 100)
    after = onnx.load(path)
    onnx.checker.check_model(after)
    assert after.graph == before.graph
    held = {entry.key: entry.value for entry in after.metadata_props}
    assert len(held.pop("draem_sha256")) == 64
    assert held == {"other": "kept", "draem": "words" * 100}


def test_the_text_is_read_where_onnx_wrote_it(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {"first": "1", "draem": "by onnx", "last": "2"})
    onnx.save(model, path)
    with pytest.warns(DraemWarning):
        assert read_embedded(path) == "by onnx"


def test_what_stands_before_the_text_in_an_mnn_file_is_untouched(tmp_path: Path) -> None:
    path = mnn_file(tmp_path / "m.mnn")
    write_embedded(path, "words")
    assert path.read_bytes().startswith(bytes(range(256)))


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".onnx", b"\x0a\xff\xff\xff\xff\x0f"),
        (".onnx", b"\x0b"),
        (".onnx", b"\x80"),
        (".onnx", b"\xff" * 20),
        (".onnx", b"\x09\x00"),
        (".xml", b"not xml"),
        (".xml", b"<net>"),
        (".xml", b'<?xml version="1.0" encoding="utf-6"?><net/>'),
        (".mnn", b"draemcrd"),
        (".mnn", b"\xff" * 8 + b"draemcrd"),
        (".mnn", b"draemsha"),
        (".mnn", b"\xff" * 72 + b"draemsha"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"m{suffix}"
    path.with_suffix(".bin").touch()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\w"):
        read_embedded(path)
    with pytest.raises(ValueError, match=r"\w"):
        write_embedded(path, "words")
    assert path.read_bytes() == content
    with pytest.raises(ModelFileError, match="damaged file or one of another kind"):
        read_card(path)


def test_any_flipped_byte_of_the_model_is_noticed(exported: Path) -> None:
    write_embedded(exported, "earlier")
    write_embedded(exported, "words")  # the hash must be that of the file as it is now
    whole = exported.read_bytes()
    for place in range(0, whole.index(b"draem"), 7):
        exported.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"\w"):
            read_embedded(exported)
    exported.write_bytes(whole)
    assert read_embedded(exported) == "words"


def test_damaged_content_is_told_from_a_file_of_another_kind(tmp_path: Path) -> None:
    path = mnn_file(tmp_path / "m.mnn")
    write_embedded(path, "words")
    path.write_bytes(path.read_bytes().replace(b"\x11", b"\x12"))
    with pytest.raises(ModelFileError, match=r"damaged.*fingerprint.*Copy the file again"):
        read_card(path)


def test_the_weights_file_an_xml_file_are_verified_too(tmp_path: Path) -> None:
    path = xml_file(tmp_path / "m.xml")
    write_embedded(path, "words")
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(HashMismatchError):
        read_embedded(path)
    weights.unlink()
    with pytest.raises(ModelFileError, match=r"weights.* missing. Expected m.bin next to it"):
        read_card(path)


def test_files_of_earlier_versions_have_no_hash_and_are_read(tmp_path: Path) -> None:
    path = mnn_file(tmp_path / "m.mnn")
    path.write_bytes(path.read_bytes() + b"words" + (5).to_bytes(8, "little") + b"draemcrd")
    with pytest.warns(DraemWarning, match="without a hash"):
        assert read_embedded(path) == "words"
    write_embedded(path, "others")
    assert read_embedded(path) == "others"
    assert path.read_bytes().startswith(bytes(range(256)) + b"others")

    path = onnx_file(tmp_path / "m.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {"draem": "words"})
    onnx.save(model, path)
    with pytest.warns(DraemWarning, match="without a hash"):
        assert read_embedded(path) == "words"

    path = xml_file(tmp_path / "m.xml")
    path.write_text(path.read_text().replace("</rt_info>", '<draem value="words" /></rt_info>'))
    with pytest.warns(DraemWarning, match="without a hash"):
        assert read_embedded(path) == "words"


def test_a_file_of_someone_elses_is_told_apart(exported: Path) -> None:
    with pytest.raises(ModelFileError, match=r"damaged, or `draem export` did not write it.*Copy"):
        read_card(exported)
    exported.write_bytes(b"" if exported.suffix != ".xml" else exported.read_bytes())
    with pytest.raises(ModelFileError, match=r"damaged, or `draem export` did not write it.*Copy"):
        read_card(exported)
    write_embedded(exported, "{}")
    with pytest.raises(ModelFileError, match="cannot be understood"):
        read_card(exported)


def external_tensor(name: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    return tensor


def with_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(external_tensor("w"))


def with_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=external_tensor("w")))


def with_subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [external_tensor("w")])
    node = helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)


def with_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["w"], value=external_tensor("w"))
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("d", "f", [], ["w"], [node], opset))


def with_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add(values=external_tensor("w"), dims=[9])


@pytest.mark.parametrize(
    "change",
    [with_initializer, with_constant, with_subgraph, with_function, with_sparse_initializer],
)
def test_onnx_weights_in_another_file_are_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    write_embedded(path, "{}")
    with pytest.raises(ModelFileError, match=r"not whole in its file.*in another file") as raised:
        read_card(path)
    assert raised.value.path == path


def test_mnn_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    path = mnn_file(tmp_path / "m.mnn")
    write_embedded(path, "{}")
    (tmp_path / "m.mnn.weight").touch()
    with pytest.raises(ModelFileError, match=r"not whole in its file.*m\.mnn\.weight"):
        read_card(path)


def test_a_model_nested_without_end_is_refused(tmp_path: Path) -> None:
    content = b""
    for _ in range(3000):  # a graph in an attribute of a node of a graph
        for number in (6, 5, 1):
            content = embedded._field(number, content)
    path = tmp_path / "m.onnx"
    path.write_bytes(embedded._field(7, content))
    with pytest.raises(ModelFileError, match="damaged file or one of another kind"):
        read_card(path)


@pytest.mark.parametrize("suffix", EXPORTED)
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ModelFileError, match="there is no such model"):
        read_card(tmp_path / f"m{suffix}")
