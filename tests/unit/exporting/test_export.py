from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import draem
from draem.errors import (
    ExportError,
    InputError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
)
from draem.exporting import export as exporting
from draem.exporting import formats
from draem.exporting.export import comparison_images, export, largest_difference
from draem.inspection.runtime import RuntimeOutput
from draem.modelfile import Calibration, read_card


@pytest.fixture(scope="module")
def model(write_tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    write_tiny_model(path, shape="compact", smoothing=5, figures={"val_loss": 0.25})
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


def test_batch_normalisation_is_folded_away(exported: Path) -> None:
    assert b"BatchNormalization" not in exported.read_bytes()


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


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such model"):
        export(tmp_path / "none.safetensors", "onnx", tmp_path / "m.onnx")


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_a_model_that_says_something_else_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    real = exporting.load

    def load(path: Path, **options: Any) -> Any:
        made = real(path, **options)
        if path.suffix == ".onnx":
            run = made._runtime.run
            monkeypatch.setattr(
                made._runtime,
                "run",
                lambda images: run(images)._replace(
                    anomaly_scores=run(images).anomaly_scores + np.float32(difference)
                ),
            )
            monkeypatch.setattr(made, "run", made._runtime.run)
        return made

    monkeypatch.setattr(exporting, "load", load)
    target = tmp_path / "m.onnx"
    target.write_text("earlier")
    with pytest.raises(ExportError, match=r"says something else.*Found a difference of"):
        export(model, "onnx", target)
    assert target.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [target]


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


def test_openvino_has_its_weights_beside_it(model: Path, tmp_path: Path) -> None:
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


def test_a_folder_that_cannot_be_written_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        export(model, "onnx", tmp_path / "missing" / "m.onnx")


def test_an_uncalibrated_model_stays_so(
    write_tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m.safetensors", shape="compact", calibration=None)
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


def test_comparison_images_are_of_many_kinds() -> None:
    images = comparison_images((32, 64))
    assert images.shape == (6, 32, 64, 3)
    assert images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 6
    assert np.array_equal(images, comparison_images((32, 64)))


def test_thresholds_survive(write_tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    calibration = Calibration(threshold=0.123456789, false_reject_rate=0.01, images=240)
    write_tiny_model(tmp_path / "m.safetensors", shape="compact", calibration=calibration)
    assert draem.load(export(tmp_path / "m.safetensors").path).threshold == 0.123456789
