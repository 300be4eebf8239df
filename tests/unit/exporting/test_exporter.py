from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import draem
from draem.embedded import replace_exported
from draem.errors import (
    ExportError,
    InputError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
)
from draem.exporting import exporter as exporting
from draem.exporting import formats
from draem.exporting.exporter import comparison_images, export, largest_difference, largest_levels
from draem.exporting.graph import WholeGraph
from draem.imaging.roi import encode_roi
from draem.inspection import torch_runtime
from draem.inspection.runtime import RuntimeOutput
from draem.model_card import Calibration
from draem.model_file import read_card, read_model, write_model


@pytest.fixture(scope="module")
def model(write_tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    write_tiny_model(path, architecture="compact", smoothing=5, figures={"val_loss": 0.25})
    return path


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    return export(model, "onnx", model.with_name("made.onnx")).path


def test_the_card_travels_in_the_file(model: Path, exported: Path) -> None:
    assert read_card(exported) == read_card(model)
    assert draem.load(exported).card == read_card(model)


def test_plain_onnx_runtime_finds_what_is_promised(model: Path, exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported)
    given = [(value.name, value.type, value.shape) for value in session.get_inputs()]
    assert given == [("images", "tensor(uint8)", ["batch", 64, 64, 3])]
    made = [(value.name, value.type, value.shape) for value in session.get_outputs()]
    assert made == [
        ("anomaly_map", "tensor(float)", ["batch", 64, 64]),
        ("anomaly_score", "tensor(float)", ["batch"]),
    ]
    images = comparison_images((64, 64))
    maps, scores = session.run(None, {"images": images})
    expected = draem.load(model, device="cpu").run(images)
    np.testing.assert_allclose(maps, expected.anomaly_maps, atol=1e-5)
    np.testing.assert_allclose(scores, expected.anomaly_scores, atol=1e-5)


def test_batch_normalisation_is_folded_before_the_exporter_sees_it(model: Path) -> None:
    def normalisations(module: nn.Module) -> int:
        return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())

    _, network = torch_runtime.read_network(model)
    assert normalisations(network) > 0
    assert normalisations(WholeGraph(network, 5)) == 0


def test_the_difference_is_that_of_the_comparison(model: Path, tmp_path: Path) -> None:
    made = export(model, "onnx", tmp_path / "m.onnx")
    images = comparison_images((64, 64))
    difference = largest_difference(
        draem.load(model, device="cpu").run(images), draem.load(made.path).run(images)
    )
    assert made.images == len(images) == 6
    assert made.largest_difference == pytest.approx(difference, abs=1e-6)
    assert 0 <= made.largest_difference < 1e-5


def test_reconstructions_are_given_on_request(model: Path, exported: Path, tmp_path: Path) -> None:
    image = comparison_images((64, 64))[2]
    assert draem.load(exported).inspect(image).reconstruction is None
    made = export(model, "onnx", tmp_path / "m.onnx", reconstruction=True)
    found = draem.load(made.path).inspect(image).reconstruction
    expected = draem.load(model, device="cpu").inspect(image).reconstruction
    assert found is not None
    assert expected is not None
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_it_is_written_beside_the_model_by_default(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "model.safetensors")
    assert export(tmp_path).path == tmp_path / "model.onnx"


@pytest.mark.parametrize("out", ["m.xml", "m", "m.onnx.gz"])
def test_a_suffix_that_picks_no_runtime_is_refused(model: Path, tmp_path: Path, out: str) -> None:
    with pytest.raises(InputError, match=r"Expected \.onnx for onnx"):
        export(model, "onnx", tmp_path / out)


def test_an_unknown_format_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match=r"there is no format `tflite`\. Expected one of onnx"):
        export(model, "tflite")  # type: ignore[arg-type]


def test_an_exported_model_is_not_exported_again(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exported already.*a \.safetensors model"):
        export(exported, "mnn", tmp_path / "m.mnn")


def test_missing_folders_are_made(model: Path, tmp_path: Path) -> None:
    assert export(model, "onnx", tmp_path / "new/line/m.onnx").path.is_file()


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the model was exported in vain")

    monkeypatch.setattr(exporting, "write_onnx", never)
    (tmp_path / "occupied").touch()
    (tmp_path / "m.onnx").mkdir()
    for target in (tmp_path / "occupied/m.onnx", tmp_path / "m.onnx"):
        with pytest.raises(OutputError, match=r"m\.onnx|occupied"):
            export(model, "onnx", target)


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such model"):
        export(tmp_path / "none.safetensors", "onnx", tmp_path / "m.onnx")


def changed_graph(change: Callable[[list[Tensor]], None]) -> type[WholeGraph]:
    """A graph that says something else than the model."""

    class Changed(WholeGraph):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            outputs = list(super().forward(images))
            change(outputs)
            return tuple(outputs)

    return Changed


def add(place: int, difference: float) -> Callable[[list[Tensor]], None]:
    def change(outputs: list[Tensor]) -> None:
        outputs[place] = outputs[place] + difference

    return change


def add_outside(outputs: list[Tensor]) -> None:
    corner = torch.zeros(64, 64)
    corner[0, 0] = 2e-4
    outputs[0] = outputs[0] + corner


INSIDE = np.zeros((64, 64), bool)
INSIDE[16:48, 16:48] = True


@pytest.mark.parametrize(
    ("change", "interest"),
    [
        pytest.param(add(1, 2e-4), None, id="score"),
        pytest.param(add(1, float("nan")), None, id="not a number"),
        pytest.param(add(1, 2e-4), encode_roi(INSIDE), id="score of a region"),
        pytest.param(add_outside, encode_roi(INSIDE), id="map outside a region"),
    ],
)
def test_a_model_that_says_something_else_is_not_kept(
    write_tiny_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[list[Tensor]], None],
    interest: str | None,
) -> None:
    model = tmp_path / "m.safetensors"
    write_tiny_model(model, architecture="compact", region_of_interest=interest)
    target = tmp_path / "out" / "m.onnx"
    target.parent.mkdir()
    target.write_text("earlier")
    monkeypatch.setattr(exporting, "WholeGraph", changed_graph(change))
    with pytest.raises(ExportError, match=r"says something else.*Found a difference of"):
        export(model, "onnx", target)
    assert target.read_text() == "earlier"
    assert list(target.parent.iterdir()) == [target]


def test_a_model_with_a_region_gives_map_and_score_of_the_whole_image(
    write_tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    write_tiny_model(
        tmp_path / "m.safetensors", architecture="compact", region_of_interest=encode_roi(INSIDE)
    )
    made = export(tmp_path / "m.safetensors")
    maps, _ = onnxruntime.InferenceSession(made.path).run(
        None, {"images": comparison_images((64, 64))}
    )
    assert made.largest_difference < 1e-5
    assert maps[:, ~INSIDE].max() > 0.01


def test_a_reconstruction_that_is_something_else_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_levels(outputs: list[Tensor]) -> None:
        outputs[2] = (outputs[2].int() + 2).clamp(max=255).to(torch.uint8)

    monkeypatch.setattr(exporting, "WholeGraph", changed_graph(two_levels))
    with pytest.raises(ExportError, match=r"within 1 level of 255.*and \d levels"):
        export(model, "onnx", tmp_path / "m.onnx", reconstruction=True)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_finite_is_refused(
    write_tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    card = write_tiny_model(tmp_path / "m.safetensors", architecture="compact")
    _, state = read_model(tmp_path / "m.safetensors")
    nan = float("nan")
    broken = {
        name: values * nan if values.is_floating_point() else values
        for name, values in state.items()
    }
    write_model(tmp_path / "m.safetensors", broken, card)
    with pytest.raises(InputError, match=r"m\.safetensors: .*not finite.*train it again"):
        export(tmp_path / "m.safetensors")


def test_the_model_file_is_read_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    real = torch_runtime.read_model

    def count(path: Path) -> Any:
        read.append(path)
        return real(path)

    monkeypatch.setattr(torch_runtime, "read_model", count)
    export(model, "onnx", tmp_path / "m.onnx")
    assert read == [model]


def test_mnn_is_made_again_more_exactly_where_the_fast_way_loses_too_much(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = export(model, "mnn", tmp_path / "fast.mnn")
    assert draem.load(fast.path).card == read_card(model)
    seen = iter([2e-4, 1e-6])
    monkeypatch.setattr(exporting, "largest_difference", lambda *_: next(seen))
    exact = export(model, "mnn", tmp_path / "exact.mnn")
    assert exact.largest_difference == 1e-6
    assert b"draem exact" in exact.path.read_bytes()
    assert b"draem exact" not in fast.path.read_bytes()
    images = comparison_images((64, 64))
    outputs = [draem.load(made.path).run(images) for made in (fast, exact)]
    for ours, theirs in zip(*(output[:2] for output in outputs), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_openvino_has_its_weights_file_it(model: Path, tmp_path: Path) -> None:
    made = export(model, "openvino", tmp_path / "line 3.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line 3.bin", "line 3.xml"]
    assert draem.load(made.path).card == read_card(model)


@pytest.mark.parametrize(("to", "library"), [("openvino", "openvino"), ("mnn", "MNN")])
def test_a_missing_exporter_names_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Any, library: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(MissingDependencyError, match=f"pip install 'draem\\[{to}\\]'"):
        export(model, to, tmp_path / f"m{exporting.SUFFIXES[to]}")


def test_a_converter_that_fails_in_silence_is_noticed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx = tmp_path / "m.onnx"
    onnx.write_bytes(b"nothing")
    with pytest.raises(ExportError, match="MNN's converter could not"):
        formats.write_mnn(onnx, tmp_path / "m.mnn")
    assert capfd.readouterr().out == ""


def test_a_folder_that_cannot_be_made_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"file.*cannot be written"):
        export(model, "onnx", tmp_path / "file" / "m.onnx")


def test_an_uncalibrated_model_stays_so(
    write_tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m.safetensors", architecture="compact", calibration=None)
    assert draem.load(export(tmp_path / "m.safetensors").path).threshold is None


def test_the_largest_difference_is_that_of_any_pixel_or_score() -> None:
    maps, scores = np.zeros((2, 4, 4), np.float32), np.zeros(2, np.float32)
    base = RuntimeOutput(maps, scores, None)
    assert largest_difference(base, base) == 0
    other = maps.copy()
    other[1, 2, 3] = -0.25
    assert largest_difference(base, RuntimeOutput(other, scores, None)) == 0.25
    assert largest_difference(base, RuntimeOutput(other, scores + 0.5, None)) == 0.5
    other[0, 0, 0] = np.nan
    assert largest_difference(base, RuntimeOutput(other, scores, None)) == float("inf")


def test_the_largest_levels_are_those_of_any_value() -> None:
    maps, scores = np.zeros((1, 2, 2), np.float32), np.zeros(1, np.float32)
    pixels = np.full((1, 2, 2, 3), 200, np.uint8)
    other = pixels.copy()
    other[0, 1, 0, 2] = 255
    other[0, 0, 0, 0] = 0
    first, second = (RuntimeOutput(maps, scores, each) for each in (pixels, other))
    assert largest_levels(first, first) == 0
    assert largest_levels(first, second) == largest_levels(second, first) == 200


def test_comparison_images_are_of_many_kinds() -> None:
    images = comparison_images((32, 64))
    assert images.shape == (6, 32, 64, 3)
    assert images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 6
    assert np.array_equal(images, comparison_images((32, 64)))


def test_thresholds_survive(write_tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    calibration = Calibration(threshold=0.123456789, false_reject_rate=0.01, images=240)
    write_tiny_model(tmp_path / "m.safetensors", architecture="compact", calibration=calibration)
    assert draem.load(export(tmp_path / "m.safetensors").path).threshold == 0.123456789


@pytest.fixture(scope="module")
def openvino_pair(write_tiny_model: Callable[..., Any], tmp_path_factory: Any) -> tuple[Path, Path]:
    """Two models, exported to OpenVINO."""
    made = []
    for seed in (0, 1):
        path = tmp_path_factory.mktemp(f"model{seed}") / "model.safetensors"
        write_tiny_model(path, architecture="compact", seed=seed)
        made.append(export(path, "openvino").path)
    return made[0], made[1]


class Killed(BaseException):
    """Ends what is being done as a SIGKILL would, but for cleaning up."""


@pytest.mark.parametrize("renames", range(4))
def test_a_killed_export_to_openvino_leaves_the_old_model_or_the_new_one(
    openvino_pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    renames: int,
) -> None:
    old, new = openvino_pair
    target = tmp_path / "a.xml"
    replace_exported(old, target)
    rename, done = Path.replace, 0

    def killed(path: Path, other: Path) -> Path:
        nonlocal done
        if done == renames and path.exists():
            raise Killed
        done += path.exists()
        return rename(path, other)

    monkeypatch.setattr(Path, "replace", killed)
    with contextlib.suppress(Killed):
        replace_exported(new, target)
    monkeypatch.undo()
    assert done == min(renames, 3)
    image = np.zeros((64, 64, 3), np.uint8)
    expected = draem.load(old if renames < 2 else new)
    assert draem.load(target).inspect(image).anomaly_score == (
        expected.inspect(image).anomaly_score
    )
    # The next export works, and leaves nothing of the one before.
    replace_exported(new, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    assert read_card(target) == read_card(new)


@pytest.mark.parametrize("module", ["MNN", "_tools"])
def test_a_missing_converter_is_called_as_its_package_is(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingDependencyError, match="this export needs MNN, which is not install"):
        export(model, "mnn", tmp_path / "m.mnn")


@pytest.mark.skipif(not hasattr(Path, "symlink_to"), reason="needs links")
def test_no_export_is_written_through_a_link(
    openvino_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "a.bin").symlink_to(tmp_path / "kept")
    with pytest.raises(OutputError, match=r"a\.bin: is a link"):
        replace_exported(openvino_pair[0], tmp_path / "a.xml")
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "a.xml").exists()
