"""The commands as a user types them, on good and on bad input."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import draem
from draem.inspection.torch_runtime import TorchRuntime
from draem.model_file import read_card, write_card

Cli = Callable[..., "object"]


def png_claiming(path: Path, side: int) -> None:
    """A PNG file whose header promises more pixels than any memory holds."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )


# Help


@pytest.mark.parametrize(
    "command",
    [
        "",
        "train",
        "evaluate",
        "calibrate",
        "inspect",
        "simulate",
        "import-upstream",
        "info",
        "demo",
    ],
)
def test_help_answers_without_the_heavy_libraries(command: str) -> None:
    script = (
        "import sys\n"
        f"sys.argv = ['draem'] + {command.split()!r} + ['--help']\n"
        "from draem.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stopped:\n    assert not stopped.code, stopped.code\n"
        "heavy = {'torch', 'lightning', 'cv2', 'numpy', 'PIL', 'onnxruntime', 'jinja2'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_inspecting_with_an_exported_model_imports_what_that_needs(
    write_tiny_model: Callable[..., object],
    save_image: Callable[..., Path],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    write_tiny_model(tmp_path / "model.safetensors", architecture="compact")
    exported = draem.export(tmp_path / "model.safetensors", "onnx").path
    save_image(tmp_path / "images" / "0.png", np.zeros((64, 64, 3), np.uint8))
    done = run_python(
        "import sys\n"
        "from draem.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stopped:\n    assert not stopped.code, stopped.code\n"
        "print(*sys.modules)\n",
        *("inspect", exported, tmp_path / "images", "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {"draem.inspection.onnx_runtime", "onnxruntime"} <= imported
    libraries = ("torch", "lightning", "safetensors", "skimage", "scipy", "onnx", "tomlkit")
    others = ("openvino", "MNN", "jinja2", "matplotlib")
    rooms = ("training", "simulation", "networks", "exporting", "evaluation", "reporting")
    assert not imported & {*libraries, *others, *(f"draem.{room}" for room in rooms)}


def test_version(draem_cli: Cli) -> None:
    outcome = draem_cli("--version")
    assert outcome.status == 0
    assert outcome.out.startswith("draem ")


@pytest.mark.parametrize("command", ["demo", "simulate parts --out sheet.png"])
def test_without_torch_the_message_says_what_to_install(command: str, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.argv = ['draem', *{command.split()!r}]\n"
        "from draem.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'draem[train]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "30000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_threads_give_their_cores_away_unless_told_otherwise(
    own: dict[str, str], expected: str
) -> None:
    script = (
        "import os, sys\n"
        "sys.argv = ['draem', '--version']\n"
        "from draem.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    others = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=others | own
    )
    assert done.stdout.split()[-1] == expected


# Good input


def test_evaluate_writes_numbers_and_a_report(
    draem_cli: Cli, trained_run: Path, shared_category: Path, tmp_path: Path
) -> None:
    outcome = draem_cli("evaluate", trained_run, shared_category, "--out", tmp_path / "report")
    assert outcome.status == 0, outcome.err
    document = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    for name in (
        *("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max"),
        *("aupro_0.30", "aupro_0.05"),
    ):
        assert 0 <= document[name] <= 1
        assert document["by_defect"]["square"].keys() >= {name}
    assert document["mask_rule"] == "half"
    assert document["counts"]["normal"] == 4
    assert (
        document["model"]["fingerprint"] == read_card(trained_run / "model.safetensors").fingerprint
    )
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "striped part" in page
    assert outcome.out.strip().endswith("report.html")


def test_inspect_names_every_image_and_goes_on_after_a_bad_one(
    draem_cli: Cli, trained_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "line 3"
    folder.mkdir()
    for name in ("-x.png", "b c.png", "ünïcode.png"):
        cv2.imwrite(str(folder / name), np.full((48, 80, 3), 90, np.uint8))
    (folder / "broken.png").write_bytes((folder / "b c.png").read_bytes()[:60])
    outcome = draem_cli("inspect", trained_run, folder, "--out", tmp_path / "out")
    assert outcome.status == 1
    assert "broken.png" in outcome.err
    lines = [
        json.loads(line)
        for line in (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [Path(line["image"]).name for line in lines] == sorted(
        ["-x.png", "b c.png", "broken.png", "ünïcode.png"]
    )
    for line in lines:
        if "broken" in line["image"]:
            assert "truncated" in line["error"]
            assert line["anomaly_score"] is None
        else:
            assert 0 <= line["anomaly_score"] <= 1
            assert line["is_anomalous"] == (line["anomaly_score"] >= line["threshold"])
            depth = cv2.imread(str(tmp_path / "out" / line["map"]), cv2.IMREAD_UNCHANGED)
            assert depth.dtype == np.uint16
            assert depth.shape == (48, 80)
            assert (tmp_path / "out" / line["overlay"]).is_file()


def test_inspect_writes_regions_as_coco_without_small_ones(
    draem_cli: Cli, trained_run: Path, shared_category: Path, tmp_path: Path
) -> None:
    images = shared_category / "test"
    outcome = draem_cli("inspect", trained_run, images, "--out", tmp_path / "all", "--coco")
    assert outcome.status == 0, outcome.err
    lines = [json.loads(line) for line in (tmp_path / "all/results.jsonl").read_text().splitlines()]
    coco = json.loads((tmp_path / "all/coco.json").read_text())
    areas = sorted(region["area"] for line in lines for region in line["regions"])
    assert [image["file_name"] for image in coco["images"]] == [line["image"] for line in lines]
    assert sorted(annotation["area"] for annotation in coco["annotations"]) == areas
    assert areas

    least = areas[-1]
    draem_cli("inspect", trained_run, images, "--out", tmp_path / "few", "--min-area", least)
    few = [json.loads(line) for line in (tmp_path / "few/results.jsonl").read_text().splitlines()]
    assert {r["area"] for line in few for r in line["regions"]} == {least}
    decisions = [[line["is_anomalous"] for line in each] for each in (lines, few)]
    assert decisions[0] == decisions[1]
    assert not (tmp_path / "few/coco.json").exists()
    refused(
        draem_cli("inspect", trained_run, images, "--out", tmp_path / "no", "--min-area", "-1"),
        "--min-area",
    )


def test_a_region_of_interest_goes_from_the_mask_to_the_results(
    draem_cli: Cli, category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    mask, run = np.zeros((96, 160), np.uint8), tmp_path / "run"
    mask[:, :80] = 255
    cv2.imwrite(str(tmp_path / "left.png"), mask)
    mask[48:] = 0
    cv2.imwrite(str(tmp_path / "corner.png"), mask)
    common = ("--recipe", tiny_recipe, "--roi", tmp_path / "left.png")
    outcome = draem_cli("simulate", category, "--out", tmp_path / "sheet.png", *common)
    assert outcome.status == 0, outcome.err
    outcome = draem_cli("train", category, "--out", run, *common, "--device", "cpu")
    assert outcome.status == 0, outcome.err
    information = draem_cli("info", run).out
    assert draem_cli("info", run, "--card").out.startswith("---\nlibrary_name: draem\n")
    assert "50% of the image" in information
    assert str(tmp_path / "left.png") in information

    def highest(*options: object) -> tuple[float, float, str]:
        outcome = draem_cli("inspect", run, category / "test", "--out", tmp_path / "out", *options)
        assert outcome.status == 0, outcome.err
        maps = [cv2.imread(str(path), -1) for path in (tmp_path / "out/maps").rglob("*.png")]
        assert all(one.max() for one in maps)
        return (
            max(one[:, 41:].max() for one in maps),
            max(one[25:].max() for one in maps),
            outcome.err,
        )

    right, lower, remarks = highest()
    assert right == 0
    assert lower > 0
    assert "region of interest" not in remarks
    right, lower, remarks = highest("--roi", tmp_path / "corner.png")
    assert right == lower == 0
    assert "threshold was found without this region of interest" in remarks


@pytest.mark.parametrize(
    ("shape", "level", "message"),
    [
        ((48, 48), 255, "other proportions"),
        ((48, 80), 0, "nothing to inspect"),
        (None, 0, "is not an image"),
        ((), 0, "does not exist"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_by_every_command(
    draem_cli: Cli,
    shared_category: Path,
    trained_run: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    shape: tuple[int, int] | None,
    level: int,
    message: str,
) -> None:
    mask, out = tmp_path / "mask.png", tmp_path / "out"
    if shape is None:
        mask.write_text("no image")
    elif shape:
        cv2.imwrite(str(mask), np.full(shape, level, np.uint8))
    recipe = ("--recipe", tiny_recipe)
    for command in (
        ("train", shared_category, "--out", out, *recipe, "--device", "cpu"),
        ("simulate", shared_category, "--out", tmp_path / "sheet.png", *recipe),
        ("inspect", trained_run, shared_category / "test", "--out", out),
    ):
        refused(draem_cli(*command, "--roi", mask), "mask.png", message)
    assert not out.exists()


def test_inspect_takes_a_file_with_a_leading_dash(
    draem_cli: Cli, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("-x.png", np.zeros((48, 80, 3), np.uint8))
    outcome = draem_cli("inspect", trained_run, "--out", "out", "--", "-x.png")
    assert outcome.status == 0, outcome.err


def test_inspecting_twice_leaves_out_the_first_results(
    draem_cli: Cli, trained_run: Path, category: Path
) -> None:
    folder = category / "train" / "good"
    for _ in range(2):
        outcome = draem_cli("inspect", trained_run, folder, "--out", folder)
        assert outcome.status == 0, outcome.err
        assert outcome.err.startswith("10 images") or "\n10 images" in outcome.err
    before = (folder / "results.jsonl").read_text(encoding="utf-8")
    assert len(before.splitlines()) == 10
    outcome = draem_cli("inspect", trained_run, folder / "maps", "--out", folder)
    refused(outcome, "no images but maps and overlays", "maps")
    assert (folder / "results.jsonl").read_text(encoding="utf-8") == before


def test_simulate_draws_a_sheet(draem_cli: Cli, shared_category: Path, tmp_path: Path) -> None:
    sheets = []
    for seed in (1, 1, 2):
        out = tmp_path / f"sheet{len(sheets)}.png"
        outcome = draem_cli(
            *("simulate", shared_category, "--out", out, "--seed", seed),
            *("--image-size", "64x96", "--profile", "paper", "--samples", 3),
        )
        assert outcome.status == 0, outcome.err
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_simulate_draws_what_the_preset_trains_on(
    draem_cli: Cli, shared_category: Path, tmp_path: Path
) -> None:
    sheets = {}
    for name, options in {
        "preset": (),
        "stated": ("--profile", "varied", "--image-size", "auto"),
        "size": ("--image-size", "256x416"),
        "other size": ("--image-size", 256),
        "other profile": ("--profile", "upstream"),
    }.items():
        out = tmp_path / f"{name}.png"
        outcome = draem_cli("simulate", shared_category, "--out", out, "--samples", 2, *options)
        assert outcome.status == 0, outcome.err
        sheets[name] = out.read_bytes()
    # The images are 48x80, which `auto` makes 256x416.
    assert sheets["preset"] == sheets["stated"] == sheets["size"]
    assert len(set(sheets.values())) == 3


def test_train_with_an_automatic_size_and_go_on(
    draem_cli: Cli, shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", shared_category, "--out", run, "--device", "cpu")
    options = ("--recipe", tiny_recipe, "--steps", 2, "--image-size", "auto")
    outcome = draem_cli(*command, *options)
    assert outcome.status == 0, outcome.err
    assert "image_size = [256, 416]" in (run / "recipe.toml").read_text(encoding="utf-8")
    for again in (("--resume",), ("--resume", "--image-size", "auto"), ("--resume", *options)):
        (run / "model.safetensors").unlink()
        outcome = draem_cli(*command, *again)
        assert outcome.status == 0, outcome.err
    (run / "model.safetensors").unlink()
    refused(draem_cli(*command, "--resume", "--image-size", "256"), "network.image_size")


def test_train_from_the_warm_start_or_from_scratch(
    draem_cli: Cli, shared_category: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "quick.toml"
    recipe.write_text("[simulation]\ncrop = 32\n", encoding="utf-8")
    prints = {}
    for name, options in {
        "preset": (),
        "warm": ("--init", "warm"),
        "scratch": ("--init", "scratch"),
    }.items():
        outcome = draem_cli(
            *("train", shared_category, "--out", tmp_path / name, "--recipe", recipe),
            *(
                "--preset",
                "compact",
                "--image-size",
                "32x64",
                "--steps",
                2,
                "--batch-size",
                4,
                "--device",
                "cpu",
            ),
            *options,
        )
        assert outcome.status == 0, outcome.err
        card = read_card(tmp_path / name / "model.safetensors")
        assert card.network.architecture == "compact"
        assert card.recipe.training.init == ("scratch" if name == "scratch" else "warm")
        prints[name] = card.fingerprint
    assert prints["preset"] == prints["warm"] != prints["scratch"]


EVIL = "\x1b[31m\x9b2J\x08\u202ered"


def is_plain(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_nothing_in_a_card_acts_on_the_terminal(
    draem_cli: Cli, tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"{EVIL}.safetensors"
    shutil.copy(tiny_model, path)
    card = read_card(path).replace(preset=EVIL, versions={EVIL: f"1\n{EVIL}"}, figures={EVIL: 0.5})
    write_card(path, card)
    for options in ((), ("--json",)):
        outcome = draem_cli("info", path, *options)
        assert outcome.status == 0, outcome.err
        assert is_plain(outcome.out + outcome.err)
        assert "u202ered" in outcome.out
    assert json.loads(outcome.out)["preset"] == EVIL


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", f"{EVIL}.safetensors"),
        ("inspect", f"{EVIL}.onnx", "{out}", "--out", "{out}/results"),
        ("inspect", "{model}", f"{{out}}/{EVIL}", "--out", "{out}/results"),
        ("inspect", "{model}", "{images}", "--out", f"{{out}}/{EVIL}"),
        ("train", f"{EVIL}", "--out", "{out}/run"),
        ("train", "{images}", "--out", "{out}/run", "--recipe", "{recipe}"),
        ("train", "{images}", "--out", "{out}/run", "--image-size", EVIL),
        ("train", "{images}", "--out", "{out}/run", "--group-by", f"({EVIL}"),
        ("evaluate", "{model}", EVIL, "--out", "{out}/report"),
        ("calibrate", "{model}", EVIL, "--false-reject-rate", "0.1"),
        ("calibrate", "{model}", "{images}", "--false-reject-rate", "0.5"),
        ("export", EVIL),
        ("simulate", EVIL, "--out", "{out}/sheet.png"),
        ("import-upstream", EVIL, EVIL, "--out", "{out}/m.safetensors"),
        ("info", "--\x1b[31mred"),  # typer's own message
        ("train", "{images}", "--preset", EVIL),
        (EVIL,),
    ],
    ids=lambda arguments: f"{arguments[0]!r}",
)
def test_nothing_in_a_name_acts_on_the_terminal(
    draem_cli: Cli, tiny_model: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    images = tmp_path / f"images {EVIL}"
    images.mkdir()
    (images / f"{EVIL}.png").write_bytes(b"no image")
    cv2.imwrite(str(images / f"good {EVIL}.png"), np.zeros((70, 70, 3), np.uint8))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[training]\n{json.dumps(EVIL)} = 1\n")
    model = shutil.copy(tiny_model, tmp_path / "model.safetensors")
    places = {"out": tmp_path, "model": model, "images": images, "recipe": recipe}
    outcome = draem_cli(*(argument.format(**places) for argument in arguments))
    assert is_plain(outcome.out + outcome.err)
    assert "red" in outcome.out + outcome.err


def test_an_old_model_file_is_told_as_a_warning() -> None:
    old = Path(__file__).parents[1] / "data" / "format-1" / "whole.safetensors"
    command = [sys.executable, "-m", "draem", "info", str(old)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert ended.stderr.startswith(f"warning: {old}: an earlier draem wrote this file")
    assert ended.stderr.count("\n") == 1


def test_info_shows_the_model(draem_cli: Cli, trained_run: Path) -> None:
    outcome = draem_cli("info", trained_run)
    assert outcome.status == 0
    assert "compact" in outcome.out
    assert "32x64" in outcome.out
    assert re.search(r"^network +compact$", outcome.out, re.MULTILINE)
    assert "threshold" in outcome.out
    as_json = json.loads(draem_cli("info", trained_run, "--json").out)
    assert as_json["network"]["image_size"] == [32, 64]
    assert as_json["network"]["architecture"] == "compact"


def test_calibrate_sets_thresholds_that_every_command_uses(
    draem_cli: Cli, trained_run: Path, shared_category: Path, more_good: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    before = read_card(run / "model.safetensors")
    (more_good / "broken.png").write_bytes((more_good / "00.png").read_bytes()[:60])
    outcome = draem_cli(
        *("calibrate", run, more_good, "--false-reject-rate", 0.05, "--review-rate", 0.5),
        *("--pixel-false-positive-rate", 0.01),
    )
    assert outcome.status == 0, outcome.err
    assert f"warning: {more_good / 'broken.png'}: " in outcome.err
    card = read_card(run / "model.safetensors")
    found = card.calibration
    assert card == before.model_copy(update={"calibration": found})
    assert found.images == 19
    promises = (
        (
            f"hreshold {found.threshold:.6g}: of good parts like these, on average at most 5% are "
            "rejected (19 calibration images)"
        ),
        (
            f"eview threshold {found.review_threshold:.6g}: of good parts like these, on average "
            "at most 50% do not pass, those rejected among them"
        ),
        (
            f"ixel threshold {found.pixel_threshold:.6g}: of good parts like these, on average at "
            "most 5% have more than 1% of their pixels at or above it"
        ),
        (
            "his holds for parts like these, photographed alike, if the pictures of each part were "
            "grouped"
        ),
        "ne threshold may reject more than the average: 19 of 20 like it reject at most 14.6%",
        "he smallest rate that 19 images support is 5%",
    )
    lines = outcome.out.splitlines()
    assert [line[1:] for line in lines] == [
        *(f"{line}." for line in promises),
        str(run / "model.safetensors")[1:],
    ]
    assert "".join(line[0] for line in lines[:6]) == "TRPTOT"

    shown = draem_cli("info", run).out
    for line in promises:
        assert line.split(": ", 1)[-1] in shown
    as_json = json.loads(draem_cli("info", run, "--json").out)
    assert as_json["calibration"]["review_rate"] == 0.5

    outcome = draem_cli("inspect", run, more_good, "--out", tmp_path / "out")
    assert outcome.status == 1
    text = (tmp_path / "out/results.jsonl").read_text(encoding="utf-8")
    decisions = [json.loads(line).get("decision") for line in text.splitlines()]
    passed, review = decisions.count("pass"), decisions.count("review")
    # The median of 19 lies just below the review threshold, the highest just below the other.
    assert (passed, review, decisions.count("reject")) == (10, 9, 0)
    assert "20 images: 10 pass, 9 review, 0 reject, 1 could not be read" in outcome.err

    outcome = draem_cli("evaluate", run, shared_category, "--out", tmp_path / "report")
    assert outcome.status == 0, outcome.err
    document = json.loads((tmp_path / "report/metrics.json").read_text(encoding="utf-8"))
    printed = dict(line.split() for line in outcome.out.splitlines()[:-1])
    for name in ("false_reject_rate", "miss_rate", "normal_review_rate", "anomalous_review_rate"):
        assert printed[name] == f"{100 * document[name]:.1f}"
    assert "would go to review" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "run", "good", "--out", "out"),
        ("evaluate", "run", "category", "--out", "out"),
        ("calibrate", "run", "good", "--false-reject-rate", "0.5"),
    ],
    ids=lambda command: command[0],
)
def test_the_model_gets_as_many_threads_as_the_user_says(
    draem_cli: Cli,
    trained_run: Path,
    shared_category: Path,
    more_good: Path,
    tmp_path: Path,
    one_thread: None,
    command: tuple[str, ...],
) -> None:
    places = {
        "run": shutil.copytree(trained_run, tmp_path / "run"),
        "good": more_good,
        "category": shared_category,
        "out": tmp_path / "out",
    }
    outcome = draem_cli(*(places.get(word, word) for word in command), "--threads", 2)
    assert outcome.status == 0, outcome.err
    assert torch.get_num_threads() == 2


def test_calibrate_names_copies(
    draem_cli: Cli, trained_run: Path, more_good: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    shutil.copy(more_good / "00.png", more_good / "again.png")
    outcome = draem_cli("calibrate", run, more_good, "--false-reject-rate", 0.05)
    assert outcome.status == 0, outcome.err
    assert (
        "warning: 1 file is a copy of another and does not count: "
        f"{more_good / 'again.png'} (of {more_good / '00.png'})"
    ) in outcome.err
    assert "(19 calibration images)" in outcome.out


def test_calibrate_counts_each_group_once(
    draem_cli: Cli, trained_run: Path, more_good: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    asked = ("calibrate", run, more_good, "--false-reject-rate", 0.2, "--group-by")
    outcome = draem_cli(*asked, r"(\d)\.png$")
    assert outcome.status == 0, outcome.err
    assert "19 images in 10 groups (by expression)" in outcome.err
    assert "(19 calibration images in 10 groups)" in outcome.out
    refused = draem_cli(*asked, "(")
    assert refused.status != 0
    assert "`group_by` cannot be understood" in refused.err


def test_train_on_any_folder_with_own_textures(
    draem_cli: Cli, shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    outcome = draem_cli(
        *("train", shared_category / "train" / "good", "--out", tmp_path / "run"),
        *("--recipe", tiny_recipe, "--textures", shared_category / "test", "--steps", 2),
        *("--device", "cpu", "--activation-checkpointing"),
    )
    assert outcome.status == 0, outcome.err
    assert "on average at most 50% are rejected" in outcome.err
    assert "99 held-out images" in outcome.err
    card = read_card(tmp_path / "run" / "model.safetensors")
    assert card.recipe.simulation.textures == str(shared_category / "test")
    assert card.recipe.training.activation_checkpointing is True


def test_train_holds_out_groups_and_says_so(
    draem_cli: Cli, shared_category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    originals = sorted((shared_category / "train" / "good").iterdir())
    good = tmp_path / "good"
    good.mkdir()
    for path in originals:
        for copy in "ab":
            shutil.copy(path, good / f"{path.stem}{copy}{path.suffix}")
    outcome = draem_cli(
        *("train", good, "--out", tmp_path / "run", "--recipe", tiny_recipe, "--steps", 1),
        *("--device", "cpu", "--group-by", "image"),
    )
    assert outcome.status == 0, outcome.err
    images, groups = 2 * len(originals), len(originals)
    assert f"{images} images in {groups} groups (by content)" in outcome.err
    assert "(2 calibration images in 1 group)." in outcome.err
    assert "This holds for parts like these, photographed alike" in outcome.err
    assert "99 held-out groups; there were 1." in outcome.err
    card = read_card(tmp_path / "run" / "model.safetensors")
    assert card.recipe.training.group_by == "image"
    assert (card.calibration.images, card.calibration.groups) == (2, 1)


def test_demo_ends_with_the_report(draem_cli: Cli, tmp_path: Path) -> None:
    outcome = draem_cli("demo", "--out", tmp_path / "demo", "--steps", "1", "--device", "cpu")
    assert outcome.status == 0, outcome.err
    report = Path(outcome.out.splitlines()[-1])
    assert report == (tmp_path / "demo" / "report.html").resolve()
    assert report.is_file()
    wrong = draem_cli("demo", "--out", tmp_path / "other", "--steps", "0")
    assert wrong.status == 2
    assert not (tmp_path / "other").exists()
    again = draem_cli("demo", "--out", tmp_path / "demo")
    assert again.status == 2
    assert "not empty" in again.err


# Bad input: a clear message that names the file, exit status 2, no traceback


def refused(outcome: object, *parts: str) -> None:
    assert outcome.status == 2, outcome
    lines = outcome.err.splitlines()
    assert any(line.startswith("error: ") for line in lines) or "Usage" in outcome.err
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.err


def test_train_refuses_folders_that_hold_no_good_parts(
    draem_cli: Cli, category: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "run")
    refused(draem_cli("train", tmp_path / "nowhere", *out), "nowhere")
    (tmp_path / "empty").mkdir()
    refused(draem_cli("train", tmp_path / "empty", *out), "empty")
    (tmp_path / "empty" / "notes.txt").write_text("no image", encoding="utf-8")
    refused(draem_cli("train", tmp_path / "empty", *out), "empty", ".png")
    refused(draem_cli("train", category / "train" / "good" / "000.png", *out), "000.png")
    (category / "train" / "good").rename(category / "train" / "fine")
    refused(draem_cli("train", category, *out), "train/good")
    assert not (tmp_path / "run").exists()


def test_train_keeps_runs_and_bad_parts_out_of_the_training_images(
    draem_cli: Cli, category: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    (parts / "OK").mkdir(parents=True)
    for path in (category / "train" / "good").iterdir():
        path.rename(parts / "OK" / path.name)
    refused(draem_cli("train", parts, "--out", parts / "run"), "among the training images")
    (parts / "NG").mkdir()
    refused(draem_cli("train", parts, "--out", tmp_path / "run"), "NG".lower())


def test_train_lists_every_unreadable_image(draem_cli: Cli, category: Path, tmp_path: Path) -> None:
    good = category / "train" / "good"
    (good / "003.png").write_bytes((good / "003.png").read_bytes()[:200])
    (good / "005.png").write_bytes(b"")
    cv2.imwrite(str(good / "tiny.png"), np.zeros((1, 1, 3), np.uint8))
    png_claiming(good / "zbomb.png", 100_000)
    outcome = draem_cli("train", category, "--out", tmp_path / "run")
    refused(outcome, "003.png", "005.png", "tiny.png", "zbomb.png", "4 of 12")
    assert not (tmp_path / "run").exists()


def test_evaluate_refuses_masks_that_do_not_fit(
    draem_cli: Cli, trained_run: Path, category: Path, tmp_path: Path
) -> None:
    masks = category / "ground_truth" / "square"
    cv2.imwrite(str(masks / "000_mask.png"), np.zeros((40, 40), np.uint8))
    (masks / "002_mask.png").unlink()
    outcome = draem_cli("evaluate", trained_run, category, "--out", tmp_path / "report")
    refused(outcome, "000_mask.png", "40x40", "002")


def test_evaluate_refuses_masks_that_mark_nothing(
    draem_cli: Cli, trained_run: Path, category: Path, tmp_path: Path
) -> None:
    classes = np.zeros((48, 80), np.uint8)
    classes[5:9, 5:9] = 3
    cv2.imwrite(str(category / "ground_truth" / "square" / "001_mask.png"), classes)
    outcome = draem_cli("evaluate", trained_run, category, "--out", tmp_path / "report")
    refused(outcome, "001_mask.png", "255")


def test_calibrate_refuses_what_would_break_its_promise(
    draem_cli: Cli, trained_run: Path, category: Path, more_good: Path, tmp_path: Path
) -> None:
    model = shutil.copy(trained_run / "model.safetensors", tmp_path / "m.safetensors")
    before = model.read_bytes()
    rate = ("--false-reject-rate", 0.1)
    refused(
        draem_cli("calibrate", model, more_good, "--false-reject-rate", 0.01),
        *("19 good images", "at least 99", "the smallest rate that 19 images support is 5%"),
    )
    refused(draem_cli("calibrate", model, category, *rate), "is a category", "not trained on")
    refused(
        draem_cli("calibrate", model, category / "train/good", *rate),
        "the images that the model was trained with",
    )
    refused(draem_cli("calibrate", model, tmp_path / "nowhere", *rate), "nowhere")
    refused(draem_cli("calibrate", tmp_path / "no.safetensors", more_good, *rate), "no such model")
    refused(draem_cli("calibrate", model, more_good, "--false-reject-rate", 2), "found 2".title())
    refused(draem_cli("calibrate", model, more_good, *rate, "--review-rate", 0.1), "review rate")
    refused(
        draem_cli("calibrate", model, more_good, *rate, "--pixel-false-positive-rate", -1), "pixels"
    )
    refused(draem_cli("calibrate", model, more_good, *rate, "--device", "cuda:7"), "cuda:7")
    refused(draem_cli("calibrate", model, more_good), "--false-reject-rate")
    assert model.read_bytes() == before


def test_a_textures_folder_without_images_is_refused(
    draem_cli: Cli, category: Path, tmp_path: Path
) -> None:
    (tmp_path / "textures").mkdir()
    outcome = draem_cli(
        "train", category, "--out", tmp_path / "run", "--textures", tmp_path / "textures"
    )
    refused(outcome, "textures")


def test_files_that_are_no_models_are_refused(
    draem_cli: Cli, trained_run: Path, category: Path, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(touched),)

    disguised = tmp_path / "disguised.safetensors"
    disguised.write_bytes(pickle.dumps(Trap()))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((trained_run / "model.safetensors").read_bytes()[:5000])
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not a model at all")
    for model, word in (
        (disguised, "pickle"),
        (damaged, "damaged"),
        (foreign, "foreign"),
        (tmp_path / "missing.safetensors", "no such"),
    ):
        refused(draem_cli("inspect", model, category, "--out", tmp_path / "o"), model.name, word)
        refused(draem_cli("info", model), model.name)
    checkpoint = tmp_path / "model.pt"
    checkpoint.write_bytes(b"PK")
    refused(draem_cli("info", checkpoint), "model.pt: no runtime is known", "ends in .safetensors")
    refused(
        draem_cli("import-upstream", disguised, disguised, "--out", tmp_path / "m.safetensors"),
        disguised.name,
    )
    assert not touched.exists()
    named = tmp_path / "model"
    refused(draem_cli("import-upstream", disguised, disguised, "--out", named), ".safetensors")


def test_output_that_cannot_be_written_is_refused(
    draem_cli: Cli, trained_run: Path, category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file", encoding="utf-8")
    for command in (
        ("train", category, "--out", occupied / "run", "--recipe", tiny_recipe),
        ("evaluate", trained_run, category, "--out", occupied),
        ("inspect", trained_run, category / "test", "--out", occupied),
        ("simulate", category, "--out", occupied / "sheet.png"),
        ("demo", "--out", occupied),
    ):
        refused(draem_cli(*command), "occupied")


def test_a_full_disk_ends_training_with_a_message(
    category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    def fill_the_disk() -> None:
        # No file may grow beyond this, which is what a full disk comes to.
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    run = tmp_path / "run"
    command = ("train", category, "--out", run, "--recipe", tiny_recipe, "--device", "cpu")
    done = subprocess.run(
        [sys.executable, "-m", "draem", *map(str, command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        preexec_fn=fill_the_disk,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_that_make_no_sense_are_refused(
    draem_cli: Cli, category: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "run")
    recipe = tmp_path / "wrong.toml"
    recipe.write_text("[training]\nlerning_rate = 1\n", encoding="utf-8")
    refused(
        draem_cli("train", category, *out, "--recipe", recipe),
        *("wrong.toml", "lerning_rate", "learning_rate"),
    )
    refused(draem_cli("train", category, *out, "--image-size", "250"), "256x256")
    refused(draem_cli("train", category, *out, "--image-size", "big"), "big")
    refused(draem_cli("train", category, *out, "--device", "cuda:7"), "cuda:7")
    refused(draem_cli("train", category, *out, "--steps", "1", "--epochs", "1"), "--steps")
    refused(draem_cli("train", category, *out, "--devices", "3"), "3 devices")
    refused(draem_cli("train", category, *out, "--resume"), "no run to resume")
    refused(draem_cli("train", category, *out, "--precision", "16", "--device", "cpu"), "float16")
    refused(
        draem_cli("train", category, *out, "--batch-size", "1", "--image-size", "32"),
        "batch normalisation",
    )
    refused(draem_cli("train", category, *out, "--seed", 2**63), "seed")
    refused(draem_cli("train", category, *out, "--init", "cold"), "cold")
    refused(
        draem_cli("train", category, *out, "--preset", "full", "--init", "warm"),
        *("warm start", "`compact` with widths 32 and 16", "`published` with widths 128 and 64"),
    )
    refused(draem_cli("train", category, *out, "--image-size", "automatic"), "automatic")
    sheet = ("simulate", category, "--out", tmp_path / "s.png")
    refused(draem_cli(*sheet, "--profile", "x"))
    refused(draem_cli(*sheet, "--image-size", "0"), "32x32")
    refused(draem_cli(*sheet, "--seed", "-1"))
    refused(draem_cli("info", tmp_path / ("x" * 300)), "x" * 300)
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_folder_is_refused(
    draem_cli: Cli, trained_run: Path, category: Path
) -> None:
    refused(draem_cli("train", category, "--out", trained_run), "finished run")
    refused(draem_cli("train", category, "--out", trained_run, "--resume"), "finished")
    refused(
        draem_cli("train", category, "--out", trained_run, "--resume", "--seed", 9),
        "training.seed",
    )


def test_a_reader_that_goes_away_is_no_error(trained_run: Path) -> None:
    script = f"{sys.executable} -m draem info '{trained_run}' | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout
    assert "Traceback" not in done.stderr


def test_the_readme_holds_no_placeholder() -> None:
    root = Path(__file__).parents[2]
    for page in (root / "README.md", *(root / "docs").rglob("*.md")):
        assert "@@" not in page.read_text(encoding="utf-8"), page


def test_inspecting_a_category_leaves_its_masks_out(
    draem_cli: Cli, trained_run: Path, shared_category: Path, tmp_path: Path
) -> None:
    outcome = draem_cli("inspect", trained_run, shared_category, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    text = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 18
    assert "ground_truth" not in text


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ("inspect", "more good", "--out", "out"),
            "stopped: 16 of 19 images inspected; results are in out",
        ),
        (("calibrate", "more good", "--false-reject-rate", 0.1), "stopped: no threshold"),
        (("export",), "stopped: nothing was exported"),
    ],
)
def test_ctrl_c_says_how_things_stand(
    draem_cli: Cli,
    tiny_model: Path,
    more_good: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[object, ...],
    said: str,
) -> None:
    monkeypatch.chdir(more_good.parent)
    model = shutil.copy(tiny_model, "m.safetensors")
    before = Path(model).read_bytes()
    calls = 0
    run = TorchRuntime.run

    def interrupted(self: TorchRuntime, images: np.ndarray) -> object:
        nonlocal calls
        calls += 1
        # One image and a batch of 16 come first in `inspect`.
        if calls > 2 or command[0] == "export":
            raise KeyboardInterrupt
        return run(self, images)

    monkeypatch.setattr(TorchRuntime, "run", interrupted)
    outcome = draem_cli(command[0], model, *command[1:])
    assert outcome.status == 130
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert Path(model).read_bytes() == before
    if command[0] == "inspect":
        # The last of the batch was being written.
        assert len(Path("out/results.jsonl").read_text().splitlines()) == 16


def test_ctrl_c_while_the_command_line_is_imported_ends_it_quietly(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = run_python(
        "import builtins, runpy, sys\n"
        "kept = builtins.__import__\n"
        "def stopped(name, *rest, **more):\n"
        "    if name == 'typer':\n"
        "        raise KeyboardInterrupt\n"
        "    return kept(name, *rest, **more)\n"
        "builtins.__import__ = stopped\n"
        "sys.argv = ['draem', 'info', 'm.onnx']\n"
        "runpy.run_module('draem', run_name='__main__')\n"
    )
    assert (ended.returncode, ended.stderr) == (130, "")


def test_without_masks_the_images_are_measured(
    draem_cli: Cli, category: Path, trained_run: Path, tmp_path: Path
) -> None:
    shutil.rmtree(category / "ground_truth")
    outcome = draem_cli("evaluate", trained_run, category, "--out", tmp_path / "report")
    assert outcome.status == 0, outcome.err
    assert "There are no masks" in outcome.err
    document = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert 0 <= document["image_auroc"] <= 1
    assert document["pixel_ap"] is None


def test_few_steps_are_told(draem_cli: Cli, category: Path, tmp_path: Path) -> None:
    small = ("--image-size", "32", "--minutes", "0.01", "--batch-size", "2", "--seed", "1")
    small += ("--preset", "compact")
    outcome = draem_cli("train", category, "--out", tmp_path / "run", *small)
    assert outcome.status == 0, outcome.err
    assert "fitted into 0.01 minutes; the preset `compact` has 1650" in outcome.err
