"""Model files of all four kinds, and foreign checkpoints."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save

from draem.embedded import write_embedded
from draem.errors import DraemWarning
from draem.foreign_checkpoint import read_checkpoint
from draem.imaging.roi import encode_roi
from draem.inspection.calibration import Calibration
from draem.inspection.onnx_runtime import OnnxRuntime
from draem.model_card import ModelCard, parse_card
from draem.model_file import read_card, read_model, read_verified_card, write_model
from draem.training.recipe import make_recipe
from fuzz.changes import changed
from fuzz.harness import as_file, target

SIDE = 32
WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.zeros(4, dtype=torch.int64)}


@cache
def card() -> ModelCard:
    """A card in which every part is filled in."""
    recipe = make_recipe("compact", overrides={"network": {"image_size": (SIDE, SIDE)}}).resolve()
    inside = np.ones((SIDE, SIDE), bool)
    inside[:4] = False
    return ModelCard(
        preset="compact",
        network=recipe.network,
        recipe=recipe.model_dump(mode="json"),
        calibration=Calibration(threshold=0.5, false_reject_rate=0.05, images=19),
        region_of_interest=encode_roi(inside),
        figures={"val_loss": 0.25},
    )


def _written(name: str, content: bytes) -> bytes:
    """A model file made of a foreign one and the card."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        if path.suffix == ".xml":
            path.with_suffix(".bin").write_bytes(b"weights")
        write_embedded(path, card().model_dump_json())
        return path.read_bytes()


@cache
def _graph() -> bytes:
    """A network that takes an image and gives a score and a map, of two operations."""
    image = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    score = helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, ["batch"])
    plane = helper.make_tensor_value_info(
        "anomaly_map", TensorProto.FLOAT, ["batch", SIDE, SIDE, 3]
    )
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["numbers"], ["anomaly_map"]),
        helper.make_node(
            "ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2, 3], keepdims=0
        ),
    ]
    graph = helper.make_graph(nodes, "draem", [image], [score, plane])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


@target("card", seeds=lambda: [card().model_dump_json().encode()])
def read_card_text(data: bytes) -> None:
    """The text of a card, as any model file may hold it."""
    parse_card("model.safetensors", data.decode("utf-8", errors="replace"))


@target("card-values", seeds=lambda: [b"", bytes(range(40)), bytes(range(255, 200, -1))])
def read_card_values(data: bytes) -> None:
    """A card with strange values; what is accepted must be stored and read again."""
    document = changed(card().model_dump(mode="json"), data)
    read = parse_card("model.safetensors", json.dumps(document))
    if parse_card("again", read.model_dump_json()) != read:
        raise AssertionError("a card that was read is another one when it is stored and read again")


def safetensors_seeds() -> Iterator[bytes]:
    """A model, one of an earlier version without a hash, and weights without a card."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_model(path, WEIGHTS, card())
        yield path.read_bytes()
        with_hash = path.read_bytes()
    yield with_hash.replace(b"draem_sha256", b"other_sha256")
    yield save(WEIGHTS, metadata={"draem": card().model_dump_json()})


@target("safetensors", seeds=safetensors_seeds)
def read_safetensors(data: bytes) -> None:
    """A model file of draem's own kind."""
    with as_file(data, "model.safetensors") as path, warnings.catch_warnings():
        warnings.simplefilter("ignore", DraemWarning)
        verified = read_verified_card(path)
        found, _ = read_model(path)
        if found != verified:
            raise AssertionError("two ways to read a model file give two cards")


@target("onnx", seeds=lambda: [_written("model.onnx", _graph())])
def read_onnx(data: bytes) -> None:
    """The card of an ONNX model."""
    with as_file(data, "model.onnx") as path, warnings.catch_warnings():
        warnings.simplefilter("ignore", DraemWarning)
        read_card(path)


@target("onnx-graph", seeds=lambda: [_graph()], memory_mb=2048)
def run_onnx(data: bytes) -> None:
    """A damaged graph under a card whose hash is right."""
    with as_file(data, "model.onnx") as path:
        try:
            onnx.load_from_string(data)
            write_embedded(path, card().model_dump_json())
        except Exception:  # no ONNX file, so nobody could have exported it
            return
        _, runtime = OnnxRuntime.load(path, threads=1)
        runtime.run(np.zeros((1, SIDE, SIDE, 3), np.uint8))


XML = b"""<?xml version="1.0"?><net name="m" version="11"><layers><layer id="0" name="images"
type="Parameter" version="opset1"><data shape="?,32,32,3" element_type="u8"/></layer></layers>
<edges/><rt_info><a value="1"/></rt_info></net>"""


@target("openvino", seeds=lambda: [_written("model.xml", XML)])
def read_openvino(data: bytes) -> None:
    """The card of an OpenVINO model."""
    with as_file(data, "model.xml") as path, warnings.catch_warnings():
        warnings.simplefilter("ignore", DraemWarning)
        path.with_suffix(".bin").write_bytes(b"weights")
        read_card(path)


@target("mnn", seeds=lambda: [_written("model.mnn", bytes(range(200)))])
def read_mnn(data: bytes) -> None:
    """The card of an MNN model."""
    with as_file(data, "model.mnn") as path, warnings.catch_warnings():
        warnings.simplefilter("ignore", DraemWarning)
        read_card(path)


def checkpoint_seeds() -> Iterator[bytes]:
    """A state dict in both of torch's formats."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pckl"
        for zipped in (True, False):
            torch.save(WEIGHTS, path, _use_new_zipfile_serialization=zipped)
            yield path.read_bytes()


@target("checkpoint", seeds=checkpoint_seeds, memory_mb=2048)
def read_foreign(data: bytes) -> None:
    """A checkpoint of anyone."""
    with as_file(data, "weights.pckl") as path:
        read_checkpoint(path)
