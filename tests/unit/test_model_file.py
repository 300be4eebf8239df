from __future__ import annotations

import hashlib
import json
import shutil
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from draem.errors import DraemWarning, MissingDependencyError, ModelFileError, OutputError
from draem.inspection.loading import load
from draem.model_card import Calibration, ModelCard, TrainingSet
from draem.model_file import (
    read_card,
    read_model,
    read_verified_card,
    weights_fingerprint,
    write_card,
    write_model,
)
from draem.training.recipe import make_recipe
from tests.support import Attack, legacy_pickle, model_card, plain_pickle, zip_pickle

READERS = pytest.mark.parametrize("read", [read_card, read_model, load])


def metadata(text: str) -> dict[str, str]:
    """A card's entries in a file's metadata."""
    return {"draem": text, "draem_sha256": hashlib.sha256(text.encode()).hexdigest()}


def plain_card(**facts: object) -> ModelCard:
    return model_card(image_size=(64, 64), **facts)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 4, generator=generator),
        "bias": torch.randn(3, generator=generator),
        "count": torch.tensor(7),
    }


@pytest.fixture
def spoiled(tiny_model: Path, tmp_path: Path) -> Callable[[Callable[[bytes], bytes]], Path]:
    """A copy of the tiny model with changed bytes."""

    def spoil(change: Callable[[bytes], bytes]) -> Path:
        path = tmp_path / "spoiled.safetensors"
        path.write_bytes(change(tiny_model.read_bytes()))
        return path

    return spoil


PICKLERS = pytest.mark.parametrize("save", [zip_pickle, legacy_pickle, plain_pickle])


def test_a_model_comes_back_as_it_was(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    card = plain_card(
        architecture="compact",
        interpolation="area",
        recipe=make_recipe(overrides={"training": {"seed": 3, "learning_rate": 1e-4}}).resolve(),
        calibration=Calibration(threshold=0.1, false_reject_rate=1 / 3, images=20),
        training_set=TrainingSet(images=180, fingerprint="ab" * 8),
        versions={"draem": "0.1.0"},
        figures={"val_loss": 0.1 + 0.2},
    )
    written = write_model(tmp_path / "m.safetensors", state, card)
    assert written == card.model_copy(update={"fingerprint": weights_fingerprint(state)})
    assert len(written.fingerprint) == 16
    assert read_card(tmp_path / "m.safetensors") == written
    read, weights = read_model(str(tmp_path / "m.safetensors"))
    assert read == written
    assert weights.keys() == state.keys()
    for name, value in state.items():
        assert weights[name].dtype == value.dtype
        assert torch.equal(weights[name], value)


@pytest.mark.parametrize(
    "threshold", [1.401298464324817e-45, float(np.float32(0.1)), 1 - 2**-24, 1 + 2**-23, 1 / 3]
)
def test_thresholds_come_back_to_the_last_bit(
    tmp_path: Path, state: dict[str, torch.Tensor], threshold: float
) -> None:
    calibration = Calibration(threshold=threshold, false_reject_rate=0.01, images=99)
    write_model(tmp_path / "m", state, plain_card(calibration=calibration))
    assert read_card(tmp_path / "m").calibration == calibration


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_card_that_could_not_be_read_again_is_not_made(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        plain_card(figures={"val_loss": value})
    with pytest.raises(ValueError, match="finite"):
        Calibration(threshold=value, false_reject_rate=0.1, images=9)


def test_weights_of_every_layout_and_type_come_back(tmp_path: Path) -> None:
    state = {
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.ones(3, dtype=torch.float16),
        "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "none": torch.empty(0, 3),
        "trained": torch.ones(2, requires_grad=True),
    }
    write_model(tmp_path / "m", state, plain_card())
    _, weights = read_model(tmp_path / "m")
    assert all(torch.equal(weights[name], value) for name, value in state.items())


def test_the_fingerprint_ignores_the_order_alone(state: dict[str, torch.Tensor]) -> None:
    fingerprint = weights_fingerprint(state)
    assert weights_fingerprint(dict(reversed(state.items()))) == fingerprint
    assert weights_fingerprint({n: v.clone() for n, v in state.items()}) == fingerprint
    flipped = state["weight"].clone()
    flipped.view(torch.int32)[2, 3] ^= 1
    changes = [
        {**state, "weight": flipped},
        {**state, "weight": state["weight"].reshape(4, 3)},
        {**state, "count": torch.tensor(8)},
        {**state, "count": torch.tensor(7, dtype=torch.int32)},
        {**state, "more": torch.zeros(1)},
        {name: value for name, value in state.items() if name != "bias"},
        {"weights" if name == "weight" else name: value for name, value in state.items()},
    ]
    found = {weights_fingerprint(change) for change in changes}
    assert len(found | {fingerprint}) == len(changes) + 1


def test_no_flipped_bit_of_the_header_changes_what_the_file_says(
    spoiled: Callable[[Callable[[bytes], bytes]], Path], tiny_model: Path
) -> None:
    whole, expected = tiny_model.read_bytes(), read_verified_card(tiny_model)
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    places = range(whole.index(b"__metadata__"), whole.index(b'"discriminative.'))
    refused = 0
    for place in [*range(8), *places, *range(end - 100, end)]:
        flipped = bytes([whole[place] ^ 1 << place % 7])
        path = spoiled(lambda data, at=place, by=flipped: data[:at] + by + data[at + 1 :])
        try:
            with warnings.catch_warnings(action="ignore", category=DraemWarning):
                assert read_card(path) == expected
        except ModelFileError:
            refused += 1
    # The rest are in the name of the hash.
    assert refused >= len(places) - len("draem_sha256")


@pytest.mark.parametrize(("written", "changed"), [(b"0.5,", b"0.7,"), (b"compact", b"CompacT")])
def test_a_changed_card_is_refused(
    spoiled: Callable[[Callable[[bytes], bytes]], Path], written: bytes, changed: bytes
) -> None:
    path = spoiled(lambda data: data.replace(written, changed, 1))
    for read in (read_card, read_verified_card, read_model, load):
        with pytest.raises(ModelFileError, match=r"damaged.*fingerprint.*Copy the file again"):
            read(path)
    with pytest.raises(ModelFileError, match="damaged"):
        write_card(path, plain_card())


def test_a_card_without_a_hash_loads_with_a_warning_until_it_is_written(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "m.safetensors"
    card = plain_card(fingerprint=weights_fingerprint(state))
    save_file(state, path, metadata={"draem": card.model_dump_json()})
    for read in (read_card, read_verified_card, lambda path: read_model(path)[0]):
        with pytest.warns(DraemWarning, match=r"m\.safetensors: an earlier draem.*calibrate"):
            assert read(path) == card
    with pytest.warns(DraemWarning):
        write_card(path, card)
    assert read_verified_card(path) == card


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999999])
def test_one_flipped_bit_in_the_weights_is_found(
    spoiled: Callable[[Callable[[bytes], bytes]], Path], place: float
) -> None:
    def flip(data: bytes) -> bytes:
        start = 8 + struct.unpack("<Q", data[:8])[0]
        index = start + int(place * (len(data) - start))
        return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]

    path = spoiled(flip)
    with pytest.raises(ModelFileError, match=r"damaged.*fingerprint.*Copy the file again"):
        read_model(path)
    with pytest.raises(ModelFileError, match="damaged"):
        load(path)
    with pytest.raises(ModelFileError, match=r"damaged.*fingerprint.*Copy the file again"):
        read_verified_card(path)


@READERS
@pytest.mark.parametrize("kept", [1, 7, 8, 100, 5000, -1])
def test_a_truncated_file_is_refused(
    spoiled: Callable[[Callable[[bytes], bytes]], Path], read: Callable[[Path], object], kept: int
) -> None:
    path = spoiled(lambda data: data[:kept])
    with pytest.raises(ModelFileError, match="a damaged file or one of another kind") as raised:
        read(path)
    assert raised.value.path == path


@READERS
def test_what_is_no_file_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(ModelFileError, match="there is no such model"):
        read(tmp_path / "missing.safetensors")
    with pytest.raises(ModelFileError, match="a folder without a model"):
        read(tmp_path)
    (tmp_path / "empty.safetensors").touch()
    with pytest.raises(ModelFileError, match="Found an empty file"):
        read(tmp_path / "empty.safetensors")
    (tmp_path / "text.safetensors").write_text("This is a text and no model.")
    with pytest.raises(ModelFileError, match="a damaged file or one of another kind"):
        read(tmp_path / "text.safetensors")


def test_a_file_that_may_not_be_read_is_explained(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("safetensors.safe_open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelFileError, match=r"cannot be read \(Permission denied\)"):
        read_card(tiny_model)


@PICKLERS
@READERS
def test_a_pickle_is_refused_and_never_opened(
    tmp_path: Path, save: Callable[[Path, object], None], read: Callable[[Path], object]
) -> None:
    path, target = tmp_path / "model.safetensors", tmp_path / "attacked"
    save(path, Attack(target))
    with pytest.raises(ModelFileError, match="could run code and is never opened") as raised:
        read(path)
    assert "draem import-upstream" in str(raised.value)
    assert not target.exists()


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(2)}, tmp_path / "m.safetensors", metadata=metadata)
        with pytest.raises(ModelFileError, match=r"was not written by draem.*`draem` entry"):
            read_card(tmp_path / "m.safetensors")


def card_text(**changes: object) -> str:
    card = json.loads(plain_card().model_dump_json())
    network = {key: changes.pop(key) for key in tuple(changes) if key in card["network"]}
    return json.dumps({**card, "network": {**card["network"], **network}, **changes})


def calibrated(**changes: object) -> str:
    """A card with a calibration that is right but for the changes."""
    right = {"threshold": 0.5, "false_reject_rate": 0.05, "images": 19}
    return card_text(calibration=right | changes)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no JSON", "Invalid JSON"),
        ("[]", "object"),
        ("{}", "preset: Field required"),
        (card_text(image_size=[64]), "image_size"),
        (card_text(image_size=[64, "wide"]), "image_size.1"),
        (card_text(interpolation="cubic"), "interpolation"),
        (card_text(reconstructive_width=-1), "reconstructive_width"),
        (card_text(discriminative_width=0), "discriminative_width"),
        (card_text(architecture="large"), "architecture.*'published', 'compact' or 'pretrained'"),
        (card_text(calibration={"threshold": None}), "calibration.threshold"),
        (card_text(unheard_of=1), "unheard_of.*update draem"),
        ("[" * 5000, "Invalid JSON"),
        ('{"preset": ' + "9" * 5000 + "}", "preset|Invalid JSON"),
        (card_text(**{"x" * 100_000: 1}), r"x{200}\.\.\. \(100000 characters\)"),
        (card_text(**{str(number): 1 for number in range(1000)}), r"; and 995 more\."),
        (card_text(image_size=[10**9, 64]), r"image_size.*\.0: .*less than or equal to 16384"),
        (card_text(image_size=[16384, 2048]), "16384x2048 is more than 16777216 pixels"),
        (card_text(tile=2 * 10**9, image_size="auto"), "16384"),
        (card_text(reconstructive_width=10**9), "reconstructive_width.*1024"),
        (card_text(smoothing=10**9), "smoothing.*127"),
        (card_text(format=-1), "format: .*greater than or equal to 1"),
        (card_text(format=1), "format 1"),
        (card_text(format=1, recipe=[3]), "format 1"),
        (card_text(format=1, network=None, tiling={"overlap": 3}), "format 1"),
        (card_text(training_set={"images": -1, "fingerprint": ""}), "training_set.images"),
        (card_text(training_set={"images": 1, "fingerprint": "", "held_out": -1}), "held_out"),
        (calibrated(threshold=-1), r"calibration\.threshold: .*greater than or equal to 0"),
        (calibrated(threshold=2), r"calibration\.threshold: .*less than or equal to 1\.001"),
        (calibrated(threshold=1e300), r"calibration\.threshold: .*less than"),
        (calibrated(threshold="NaN"), r"calibration\.threshold: .*finite"),
        (calibrated(false_reject_rate=7), r"calibration\.false_reject_rate: .*less than 1"),
        (calibrated(false_reject_rate=0), r"calibration\.false_reject_rate: .*greater than 0"),
        (calibrated(images=-19), r"calibration\.images: .*greater than or equal to 1"),
        (calibrated(groups=0), r"calibration\.groups: .*greater than or equal to 1"),
        (calibrated(groups=20), "more groups than images"),
        (calibrated(review_threshold=0.6, review_rate=0.1), "for review is above the threshold"),
        (calibrated(review_threshold=0.4, review_rate=0.05), "must be above the false-reject rate"),
        (calibrated(review_threshold=0.4), "a threshold and its rate"),
        (calibrated(pixel_threshold=-1, pixel_false_positive_rate=0), "pixel_threshold"),
        (calibrated(pixel_threshold=0.5, pixel_false_positive_rate=1), "pixel_false_positive_rate"),
        (calibrated(pixel_threshold=0.5), "a threshold and its rate"),
    ],
)
def test_wrong_metadata_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata(text))
    with pytest.raises(ModelFileError, match=f"metadata cannot be understood.*{named}"):
        read_card(path)


def test_weights_that_torch_cannot_hold_are_refused(tmp_path: Path) -> None:
    described = {"w": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}
    header = json.dumps({"__metadata__": metadata(card_text()), **described}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"abc")
    for read in (read_model, read_verified_card):
        with pytest.raises(ModelFileError) as raised:
            read(path)
        assert raised.value.path == path


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata(card_text(format=3)))
    with pytest.raises(ModelFileError, match=r"newer.*format 2 or older.*format 3.*Update draem"):
        read_card(path)


def test_a_card_is_read_without_torch(
    tiny_model: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(
        "import sys, draem.model_file\n"
        "print(draem.model_file.read_card(sys.argv[1]).fingerprint)\n"
        "assert 'torch' not in sys.modules\n",
        tiny_model,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() == read_card(tiny_model).fingerprint


def test_a_missing_safetensors_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'draem\[train\]'"):
        read_card(tiny_model)


def test_a_model_that_cannot_be_written(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(OutputError):
        write_model(tmp_path / "missing" / "m.safetensors", state, plain_card())


def weights_of(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 + struct.unpack("<Q", data[:8])[0] :]


def recalibrated(path: Path) -> ModelCard:
    found = Calibration(
        threshold=0.25,
        false_reject_rate=0.1,
        images=9,
        review_threshold=0.125,
        review_rate=0.2,
        pixel_threshold=1 + 2**-23,
        pixel_false_positive_rate=0.0,
    )
    return read_card(path).model_copy(update={"calibration": found})


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return shutil.copy(tiny_model, tmp_path / "model.safetensors")


def test_a_new_card_leaves_the_weights_as_they_are(model: Path, tiny_model: Path) -> None:
    card = recalibrated(model)
    for _ in range(2):
        write_card(str(model), card)
        read, weights = read_model(model)
        assert read == card
        assert read.fingerprint == read_card(tiny_model).fingerprint
        assert weights_of(model) == weights_of(tiny_model)
        for name, value in read_model(tiny_model)[1].items():
            assert torch.equal(weights[name], value)
    write_card(model, read_card(tiny_model))
    assert read_card(model) == read_card(tiny_model)
    assert list(model.parent.iterdir()) == [model]


def test_other_metadata_and_letters_are_kept(tmp_path: Path, state: dict) -> None:
    path = tmp_path / "m.safetensors"
    card = plain_card(fingerprint=weights_fingerprint(state))
    others = {**metadata(card.model_dump_json()), "note": "Maß 名"}
    save_file(state, path, metadata=others)
    for length in range(9):
        changed = card.model_copy(update={"versions": {"é" * length: "名"}})
        write_card(path, changed)
        assert read_model(path)[0] == changed
        assert struct.unpack("<Q", path.read_bytes()[:8])[0] % 8 == 0, "weights must lie aligned"
    with safe_open(path, "pt") as file:
        assert file.metadata()["note"] == "Maß 名"
        assert file.keys() == sorted(state)


def test_a_card_of_other_weights_is_refused(model: Path) -> None:
    before = model.read_bytes()
    other = recalibrated(model).model_copy(update={"fingerprint": "ab" * 8})
    with pytest.raises(ModelFileError, match=r"holds another model.*abab") as raised:
        write_card(model, other)
    assert raised.value.found == read_card(model).fingerprint
    assert model.read_bytes() == before


@pytest.mark.parametrize("moment", ["copyfileobj", "fsync"])
def test_a_full_disk_leaves_the_old_card(
    model: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before, card = model.read_bytes(), recalibrated(model)
    home = "shutil" if moment == "copyfileobj" else "os"
    monkeypatch.setattr(f"{home}.{moment}", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_card(model, card)
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_stays_a_link(model: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "latest.safetensors"
    link.parent.mkdir()
    link.symlink_to(model)
    card = recalibrated(model)
    write_card(link, card)
    assert link.is_symlink()
    assert read_card(model) == card


def test_nothing_is_stored_in_what_is_no_model(model: Path, tmp_path: Path) -> None:
    card = recalibrated(model)
    with pytest.raises(ModelFileError, match="there is no such model"):
        write_card(tmp_path / "missing.safetensors", card)
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:500])
    with pytest.raises(ModelFileError, match="a damaged file"):
        write_card(tmp_path / "cut.safetensors", card)
    (tmp_path / "model.txt").write_bytes(model.read_bytes())
    with pytest.raises(ModelFileError, match=r"this kind of file.*\.safetensors"):
        write_card(tmp_path / "model.txt", card)


def test_a_card_is_stored_without_torch(
    model: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(
        "import sys, draem.model_file as m\n"
        "m.write_card(sys.argv[1], m.read_card(sys.argv[1]).model_copy(update={'figures': {}}))\n"
        "assert 'torch' not in sys.modules\n",
        model,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    read_model(model)


def test_a_calibration_from_before_further_thresholds_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    older = card_text(calibration={"threshold": 0.5, "false_reject_rate": 0.05, "images": 19})
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata(older))
    found = read_card(path).calibration
    assert found == Calibration(threshold=0.5, false_reject_rate=0.05, images=19)
    assert found.review_threshold is found.pixel_threshold is None


def test_weights_of_any_type_are_verified_without_torch(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool)
    types += (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    state = {f"of {kind}": torch.ones(2, 3, dtype=kind) for kind in types}
    state |= {"one": torch.tensor(3.5), "row": torch.arange(5), "none": torch.empty(0, 2)}
    card = write_model(tmp_path / "m.safetensors", state, plain_card())
    ended = run_python(
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from draem.model_file import read_verified_card\n"
        "print(read_verified_card(sys.argv[1]).fingerprint)\n",
        tmp_path / "m.safetensors",
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, card.fingerprint), ended.stderr
