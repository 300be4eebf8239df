"""What the runtimes of exported models do beside running: threads, devices, damage, silence."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import draem
from draem.embedded import read_embedded, write_embedded
from draem.errors import InputError, MissingDependencyError, ModelFileError
from draem.exporting.formats import write_openvino
from draem.inspection.mnn_runtime import silenced
from draem.model_file import read_card, write_card

with silenced():
    import MNN

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "mnn": ".mnn"}
LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino", "mnn": "MNN"}


@pytest.fixture(scope="module")
def folder(write_tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.safetensors"
    write_tiny_model(path, architecture="compact")
    for to in FORMATS:
        draem.export(path, to)  # type: ignore[arg-type]
    return path.parent


@pytest.fixture(params=FORMATS)
def exported(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder / f"model{FORMATS[request.param]}"


def some_images(count: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, (count, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_each_runtime_is_told_its_threads_and_gives_the_same(
    exported: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    expected = draem.load(exported).run(some_images(2))
    settings: list[dict[str, Any]] = []
    if exported.suffix == ".mnn":  # which tells nothing of its threads
        make = MNN.nn.create_runtime_manager
        monkeypatch.setattr(
            MNN.nn, "create_runtime_manager", lambda given: settings.extend(given) or make(given)
        )

    inspector = draem.load(exported, threads=threads)

    runtime: Any = inspector._runtime
    if exported.suffix == ".onnx":
        told = runtime._session.get_session_options().intra_op_num_threads
    elif exported.suffix == ".xml":
        told = runtime._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS")
    else:
        told = settings[0]["numThread"]
    assert told == min(threads, 2)
    found = inspector.run(some_images(2))
    np.testing.assert_allclose(found.anomaly_maps, expected.anomaly_maps, atol=1e-5)


def test_torch_is_told_its_threads(folder: Path, one_thread: None) -> None:
    draem.load(folder / "model.safetensors", threads=2)
    assert torch.get_num_threads() == 2
    draem.load(folder / "model.safetensors")
    assert torch.get_num_threads() == 2


def test_no_threads_at_all_are_refused(exported: Path) -> None:
    with pytest.raises(InputError, match="threads must be positive"):
        draem.load(exported, threads=0)


def test_it_runs_on_the_cpu_alone(exported: Path) -> None:
    assert draem.load(exported, device="cpu").run(some_images(1)).anomaly_scores.shape == (1,)
    with pytest.raises(InputError, match=r"cannot run on the device `cuda`.*safetensors"):
        draem.load(exported, device="cuda")


def test_a_truncated_file_is_refused(exported: Path, tmp_path: Path) -> None:
    text = read_embedded(exported)
    damaged = tmp_path / exported.name
    content = exported.read_bytes()
    if exported.suffix == ".onnx":
        model = onnx.load_from_string(content)
        model.graph.node[0].op_type = "Nonsense"
        damaged.write_bytes(model.SerializeToString())
    elif exported.suffix == ".mnn":
        damaged.write_bytes(content[:2000])
    else:
        damaged.write_bytes(content)
        damaged.with_suffix(".bin").write_bytes(b"few")
    assert text is not None
    write_embedded(damaged, text)
    with pytest.raises(ModelFileError, match="cannot load this model"):
        draem.load(damaged)


def test_weights_damaged_in_the_middle_are_refused(exported: Path, tmp_path: Path) -> None:
    for file in exported.parent.glob("model.*"):
        shutil.copy(file, tmp_path)
    damaged = tmp_path / exported.name
    draem.load(damaged)
    write_card(damaged, read_card(damaged).model_copy(update={"calibration": None}))
    assert draem.load(damaged).threshold is None

    file = damaged.with_suffix(".bin") if damaged.suffix == ".xml" else damaged
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(255 - byte for byte in content[middle : middle + 400])
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged: it does not match the fingerprint"):
        draem.load(damaged)


def test_another_model_with_our_card_is_refused(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.output[1].name = "something"
    for node in model.graph.node:
        node.output[:] = [name.replace("anomaly_score", "something") for name in node.output]
    onnx.save(model, tmp_path / "m.onnx")
    write_embedded(tmp_path / "m.onnx", str(read_embedded(folder / "model.onnx")))
    with pytest.raises(ModelFileError, match=r"Expected anomaly_score\. Found anomaly_map"):
        draem.load(tmp_path / "m.onnx")


def foreign_model(
    path: Path, card: str, given: tuple[str, int, list[Any]], score: float, side: int | None = None
) -> Path:
    """An ONNX file with our card whose map is 0 everywhere and whose score is a constant.

    Args:
        path: Where to.
        card: The card.
        given: Name, type and shape of the input.
        score: What it says of any image.
        side: Height of the map; that of the image if omitted.
    """
    values, (name, kind, shape) = helper.make_tensor_value_info, given
    constants = {
        "zero": np.array(0, np.float32),
        "score": np.array(score, np.float32),
        "channels": np.array([3], np.int64),
        "start": np.array([side or 0], np.int64),
        "end": np.array([1 if not side else side + 1], np.int64),
        "first": np.array([1], np.int64),
        "others": np.array([1, 2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", [name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["float", "channels"], ["plane"], keepdims=0),
        helper.make_node("Mul", ["plane", "zero"], ["flat"]),
        helper.make_node("Slice", ["flat", "start", "end", "first"], ["row"]),
        helper.make_node("Identity", ["row" if side else "flat"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["flat", "others"], ["none"], keepdims=0),
        helper.make_node("Add", ["none", "score"], ["anomaly_score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [values(name, kind, shape)],
        [
            values("anomaly_map", TensorProto.FLOAT, ["batch", "height", "width"]),
            values("anomaly_score", TensorProto.FLOAT, ["batch"]),
        ],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    write_embedded(path, card)
    return path


IMAGES = ("images", TensorProto.UINT8, ["batch", 64, 64, 3])


def test_a_score_in_range_is_taken_from_any_model(folder: Path, tmp_path: Path) -> None:
    card = str(read_embedded(folder / "model.onnx"))
    for score in (0.0, 0.25, 1.0):
        path = foreign_model(tmp_path / "m.onnx", card, IMAGES, score)
        assert draem.load(path).inspect(some_images(1)[0]).anomaly_score == score


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("score", "problem"),
    [
        (199, "a score out of range.*0 to 1.*199 to 199"),
        (-0.5, "a score out of range"),
        (float("nan"), "a score that is not finite"),
        (float("inf"), "a score that is not finite"),
    ],
)
def test_scores_that_no_model_of_ours_gives_are_refused(
    folder: Path, tmp_path: Path, to: str, score: float, problem: str
) -> None:
    path = foreign_model(
        tmp_path / "m.onnx", str(read_embedded(folder / "model.onnx")), IMAGES, score
    )
    if to == "openvino":
        card, given = str(read_embedded(path)), path
        path = tmp_path / "m.xml"
        write_openvino(given, path)
        write_embedded(path, card)
    inspector = draem.load(path)
    for run in (inspector.inspect, lambda image: inspector.run(image[None])):
        with pytest.raises(InputError, match=problem):
            run(some_images(1)[0])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("pictures", TensorProto.UINT8, ["batch", 64, 64, 3]), r"`pictures`, uint8"),
        (("images", TensorProto.FLOAT, ["batch", 64, 64, 3]), r"`images`, float"),
        (("images", TensorProto.UINT8, ["batch", 64, 96, 3]), r"\(batch, 64, 96, 3\)"),
        (("images", TensorProto.UINT8, ["batch", 64, "any", 3]), r"\(batch, 64, any, 3\)"),
    ],
)
def test_a_model_that_takes_other_images_is_refused(
    folder: Path, tmp_path: Path, given: tuple[str, int, list[Any]], found: str
) -> None:
    card = str(read_embedded(folder / "model.onnx"))
    path = foreign_model(tmp_path / "m.onnx", card, given, 0.5)
    wanted = r"`images`, uint8, \(batch, 64, 64, 3\)"
    with pytest.raises(ModelFileError, match=f"its card describes.*{wanted}.*{found}") as raised:
        draem.load(path)
    assert raised.value.path == path
    write_openvino(path, tmp_path / "m.xml")
    write_embedded(tmp_path / "m.xml", card)
    with pytest.raises(ModelFileError, match=f"its card describes.*{wanted}"):
        draem.load(tmp_path / "m.xml")


def test_a_card_of_another_size_is_refused(exported: Path, tmp_path: Path) -> None:
    for file in exported.parent.glob("model.*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / exported.name
    card = read_card(path)
    write_card(path, card.replace(network=card.network.replace(image_size=(64, 96))))
    with pytest.raises(ModelFileError, match=r"\(batch, 64, 96, 3\).*\(batch, 64, 64, 3\)"):
        draem.load(path)


def test_a_map_of_another_size_is_refused(folder: Path, tmp_path: Path) -> None:
    card = str(read_embedded(folder / "model.onnx"))
    path = foreign_model(tmp_path / "m.onnx", card, IMAGES, 0.5, side=5)
    with pytest.raises(InputError, match=r"another `anomaly_map`.*\(1, 64, 64\).*\(1, 1, 64\)"):
        draem.load(path).inspect(some_images(1)[0])


def test_a_model_that_fails_is_explained(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspector = draem.load(exported)

    def fail(_: Any) -> None:
        raise RuntimeError("a broken operator")

    monkeypatch.setattr(inspector._runtime, "run", fail)
    with pytest.raises(InputError, match=r"cannot be run.*RuntimeError: a broken operator"):
        inspector.inspect(some_images(1)[0])


@pytest.mark.parametrize("to", FORMATS)
def test_a_missing_runtime_names_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[to], None)
    extra = "draem" if to == "onnx" else rf"'draem\[{to}\]'"
    with pytest.raises(MissingDependencyError, match=f"needs {LIBRARIES[to]}.*{extra}"):
        draem.load(folder / f"model{FORMATS[to]}")


def test_nothing_is_written_to_standard_output(
    exported: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(
        "import sys, numpy, draem\n"
        "print('before', flush=False)\n"
        "inspector = draem.load(sys.argv[1])\n"
        "inspector.run(numpy.zeros((2, 64, 64, 3), numpy.uint8))\n"
        "print('after')\n",
        exported,
    )
    assert ended.stdout == "before\nafter\n", ended.stderr


def test_mnn_works_without_a_standard_output(
    folder: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(
        "import os, sys, draem\n"
        "os.close(1)\n"
        "draem.load(sys.argv[1])\n"
        "print('fine', file=sys.stderr)\n",
        folder / "model.mnn",
    )
    assert ended.stderr.endswith("fine\n")


def test_mnn_works_where_there_never_was_a_standard_output(folder: Path) -> None:
    # As in a service, or under pythonw.
    code = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    loading = "import sys, draem; assert sys.stdout is None; draem.load(sys.argv[1])"
    command = [sys.executable, "-c", code, "-c", loading, str(folder / "model.mnn")]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_mnns_tools_are_never_imported(
    folder: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(
        "import sys, draem\n"
        "draem.export(sys.argv[1], 'mnn', sys.argv[2])\n"
        "draem.load(sys.argv[2])\n"
        "print('_tools' in sys.modules, [name for name in sys.modules if 'MNN.tools' in name])\n",
        folder / "model.safetensors",
        folder / "again.mnn",
    )
    assert ended.stdout == "True []\n", ended.stderr


def test_one_model_may_be_used_from_several_threads(exported: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    inspector = draem.load(exported, threads=1)
    images = some_images(8)
    expected = [inspector.run(image[None]).anomaly_scores[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: inspector.run(image[None]).anomaly_scores[0], images))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_thresholds_can_be_set_in_an_exported_model(
    exported: Path, save_image: Callable[..., Path], tmp_path: Path
) -> None:
    model = tmp_path / exported.name
    for file in exported.parent.glob(f"{exported.stem}.*"):
        shutil.copy(file, tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (9, 70, 70, 3), np.uint8)
    for number, image in enumerate(images):
        save_image(tmp_path / "good" / f"{number}.png", image)
    before = draem.load(model).run(some_images(2))

    found = draem.calibrate_model(model, tmp_path / "good", false_reject_rate=0.1).calibration

    after = draem.load(model)
    assert after.card.calibration == found
    assert found.threshold > max(after.inspect(image).anomaly_score for image in images)
    np.testing.assert_array_equal(after.run(some_images(2)).anomaly_maps, before.anomaly_maps)


def test_it_inspects_large_images_by_tiles_as_the_model_does(exported: Path, folder: Path) -> None:
    image = np.random.default_rng(4).integers(0, 256, (100, 150, 3), np.uint8)
    expected = draem.load(folder / "model.safetensors", device="cpu").with_tiles(64, 8)
    found = draem.load(exported).with_tiles(64, 8).inspect(image)
    assert found.anomaly_map.shape == (100, 150)
    assert np.ptp(found.anomaly_map) > 1e-3
    np.testing.assert_allclose(found.anomaly_map, expected.inspect(image).anomaly_map, atol=1e-4)
    assert found.reconstruction is None


FORKED = """
import os, sys, time
import numpy as np
import draem

image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

def loaded(path):
    return draem.load(path, threads=int(os.environ["THREADS"]))

def tell(*paths):
    for path in paths:
        for inspector in (parents[path], None):
            try:
                inspector = inspector or loaded(path)
                score = inspector.inspect(image).anomaly_score
                print("same" if abs(score - scores[path]) < 1e-5 else score)
            except draem.DraemError as error:
                print(error)

parents = {path: loaded(path) for path in sys.argv[1:]}
scores = {path: each.inspect(image).anomaly_score for path, each in parents.items()}
sys.stdout.flush()
child = os.fork()
if child == 0:
    tell(*sys.argv[1:])
    sys.exit(7)
started = time.monotonic()
while time.monotonic() - started < 60:
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.01)
os.kill(child, 9)
print("the fork hangs")
"""
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@fork
def test_a_forked_process_runs_what_its_parent_loaded_and_what_it_loads(
    folder: Path, run_python: Callable[..., CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("THREADS", "2")
    models = [folder / f"model{suffix}" for suffix in (".safetensors", ".onnx", ".xml")]
    ended = run_python(FORKED, *models)
    assert ended.stdout.splitlines() == ["same"] * 6, ended.stderr
    assert ended.returncode == 7


@fork
@pytest.mark.parametrize("threads", [1, 2])
def test_mnn_runs_in_a_forked_process_only_if_no_thread_is_lost(
    folder: Path,
    run_python: Callable[..., CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
) -> None:
    monkeypatch.setenv("THREADS", str(threads))
    ended = run_python(f"import os; os.cpu_count = lambda: 2\n{FORKED}", folder / "model.mnn")
    said = ended.stdout.splitlines()
    if threads == 1:
        assert said == ["same", "same"], ended.stderr
    else:
        assert len(said) == 2, ended.stdout
        for line in said:
            assert "cannot run in a process that was forked" in line
            assert "Load it with threads=1 before the fork" in line
    assert ended.returncode == 7


@fork
def test_a_fork_in_the_middle_of_a_run_is_refused(
    folder: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(
        "import os, sys, numpy as np, draem\n"
        "inspector = draem.load(sys.argv[1], threads=1)\n"
        "image = np.zeros((64, 64, 3), np.uint8)\n"
        "with inspector._runtime._running():\n"
        "    child = os.fork()\n"
        "if child:\n"
        "    inspector.inspect(image)\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "try:\n"
        "    inspector.inspect(image)\n"
        "except draem.DraemError as error:\n"
        "    print(error)\n",
        folder / "model.onnx",
    )
    assert "Fork while no thread is running the model" in ended.stdout, ended.stderr
    assert ended.returncode == 0


def test_a_signal_is_handled_after_models_of_openvino_are_gone(
    folder: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(
        "import signal, sys, draem\n"
        "first, second = draem.load(sys.argv[1]), draem.load(sys.argv[1])\n"
        "del first\n"
        "del second\n"
        "signal.signal(signal.SIGINT, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGINT)\n",
        folder / "model.xml",
    )
    assert (ended.stdout, ended.returncode) == ("handled\n", 0), ended.stderr


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".xml", ".mnn"])
def test_an_inspector_can_be_pickled(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.chdir(folder)
    inspector = draem.load(f"model{suffix}", threads=1, min_area=3)
    pickled = pickle.dumps(inspector)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickled)
    image = some_images(1)[0]
    ours, theirs = inspector.inspect(image), again.inspect(image)
    assert (ours.anomaly_score, ours.regions) == (theirs.anomaly_score, theirs.regions)
    assert again.card == inspector.card


@pytest.mark.parametrize("to", FORMATS)
def test_a_pickle_whose_file_has_become_another_model_is_refused(
    folder: Path, write_tiny_model: Callable[..., Any], tmp_path: Path, to: str
) -> None:
    for file in folder.glob("model.*"):
        shutil.copy(file, tmp_path)
    model = tmp_path / f"model{FORMATS[to]}"
    pickled = pickle.dumps(draem.load(model))
    # A new threshold is no other model.
    card = read_card(model)
    write_card(model, card.replace(calibration=None))
    assert pickle.loads(pickled).card == card
    write_tiny_model(tmp_path / "model.safetensors", architecture="compact", seed=1)
    draem.export(tmp_path / "model.safetensors", to)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="another model than the one that was pickled"):
        pickle.loads(pickled)


@pytest.mark.parametrize("to", FORMATS)
def test_a_pickle_that_misses_its_library_names_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    pickled = pickle.dumps(draem.load(folder / f"model{FORMATS[to]}"))
    monkeypatch.setitem(sys.modules, LIBRARIES[to], None)
    with pytest.raises(MissingDependencyError, match=f"needs {LIBRARIES[to]}, which is not"):
        pickle.loads(pickled)
