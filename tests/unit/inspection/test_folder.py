from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from draem.datasets.mvtec import gather_good_images, read_normal_images
from draem.errors import DatasetError, OutputError
from draem.imaging.decode import decode_image
from draem.inspection.folder import Summary, draw_overlay, inspect_files
from draem.inspection.inspector import Inspector
from draem.inspection.loading import load
from draem.output_paths import picture_names, without_results

Save = Callable[[Path, np.ndarray], Path]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part(red: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    pixels = np.random.default_rng(red).integers(0, 256, (*size, 3), np.uint8)
    pixels[..., 0] = red // 4
    pixels[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2, 0] = red
    return pixels


def lines_of(summary: Summary) -> list[dict]:
    return [json.loads(line) for line in summary.results.read_text(encoding="utf-8").splitlines()]


def test_every_image_gets_one_line_in_order(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    inspector = red_inspector(0.5)
    names = ["c.png", "a.png", "b.png"]
    paths = [
        save_image(tmp_path / name, part(red, (64, 96)))
        for name, red in zip(names, (250, 60, 200), strict=True)
    ]
    calls: list[tuple[int, int]] = []
    out = tmp_path / "out" / "deep"
    summary = inspect_files(
        inspector, paths, out, progress=lambda done, total: calls.append((done, total))
    )
    assert summary == Summary(out / "results.jsonl", images=3, anomalous=2, failures=())
    assert calls == [(1, 3), (2, 3), (3, 3)]
    lines = lines_of(summary)
    assert [line["image"] for line in lines] == [str(path) for path in paths]
    for line, path in zip(lines, paths, strict=True):
        found = inspector.inspect(decode_image(path))
        assert line == {
            "image": str(path),
            "anomaly_score": found.anomaly_score,
            "threshold": 0.5,
            "is_anomalous": found.is_anomalous,
            "decision": found.decision,
            "regions": [
                {
                    "box": list(region.box),
                    "area": region.area,
                    "peak": region.peak,
                    "mean": region.mean,
                    "contour": [list(corner) for corner in region.contour],
                }
                for region in found.regions
            ],
            "map": f"maps/{path.name}",
            "overlay": f"overlays/{path.name}",
        }
    assert [bool(line["regions"]) for line in lines] == [True, False, True]


@pytest.mark.parametrize("size", [(64, 64), (100, 60)])
def test_a_written_map_is_the_inspections(
    tiny_model: Path, save_image: Save, tmp_path: Path, size: tuple[int, int]
) -> None:
    inspector = load(tiny_model, device="cpu")
    path = save_image(tmp_path / "part.png", part(230, size))
    summary = inspect_files(inspector, [path], tmp_path / "out")
    found = inspector.inspect(decode_image(path))
    with Image.open(tmp_path / "out/maps/part.png") as image:
        assert image.mode == "I;16"
        written = np.array(image)
    assert written.shape == size
    assert np.ptp(written) > 1000
    np.testing.assert_allclose(written / 65535, found.anomaly_map, rtol=0, atol=1 / 65535)
    with Image.open(tmp_path / "out/overlays/part.png") as image:
        assert (np.array(image) == draw_overlay(decode_image(path), found)).all()
    assert names_in(tmp_path / "out") == ["maps", "overlays", "results.jsonl"]
    assert summary.anomalous == int(found.is_anomalous or 0)


def test_a_bad_image_costs_only_itself(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    first = save_image(tmp_path / "first.png", part(200))
    cut = save_image(tmp_path / "cut.png", part(100))
    cut.write_bytes(cut.read_bytes()[:3000])
    (tmp_path / "text.png").write_text("no image")
    paths = [first, cut, tmp_path / "text.png", tmp_path / "missing.png", first]
    calls: list[int] = []
    summary = inspect_files(
        red_inspector(), paths, tmp_path / "out", progress=lambda done, _: calls.append(done)
    )
    lines = lines_of(summary)
    assert [line["image"] for line in lines] == [str(path) for path in paths]
    assert ["error" in line for line in lines] == [False, *[True] * 3, False]
    for line in lines[1:4]:
        assert line.pop("error").startswith(f"{line['image']}: ")
        assert line == dict.fromkeys(lines[0]) | {"image": line["image"]}
    assert [path for path, _ in summary.failures] == paths[1:4]
    assert [reason for _, reason in summary.failures][1:] == [
        "is not an image that draem can read",
        "does not exist",
    ]
    assert (summary.images, summary.anomalous) == (5, 2)
    assert calls == [1, 2, 3, 4, 5]


def test_takes_text_and_folders(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    first = save_image(tmp_path / "a" / "first.png", part(200))
    second = save_image(tmp_path / "b" / "c" / "second.png", part(100))
    for number, paths in enumerate(([str(first), tmp_path / "b"], str(tmp_path), tmp_path)):
        summary = inspect_files(red_inspector(), paths, tmp_path.parent / f"out-{number}")
        assert [line["image"] for line in lines_of(summary)] == [str(first), str(second)]


def test_images_of_one_name_do_not_overwrite_each_other(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    names = ["left/000.png", "right/000.png", "right/000-2.png", "up/000.PNG", "up/000.bmp"]
    paths = [
        save_image(tmp_path / name, np.full((64, 64, 3), 10 * number, np.uint8))
        for number, name in enumerate(names, 1)
    ]
    lines = lines_of(inspect_files(red_inspector(), paths, tmp_path / "out"))
    maps = [line["map"] for line in lines]
    assert maps[:3] == ["maps/left/000.png", "maps/right/000.png", "maps/right/000-2.png"]
    assert maps[3:] == ["maps/up/000.png", "maps/up/000-2.png"]
    assert len({name.lower() for name in maps}) == len(names)
    for number, line in enumerate(lines, 1):
        for kind in ("map", "overlay"):
            assert Path(line[kind]).suffix == ".png"
        with Image.open(tmp_path / "out" / line["map"]) as image:
            assert (np.array(image) == round(10 * number / 255 * 65535)).all()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["a.png"], ["a.png"]),
        (["deep/in/a.png", "deep/in/b.jpg"], ["a.png", "b.png"]),
        (["d/dent/000.png", "d/good/000.png"], ["dent/000.png", "good/000.png"]),
        (["d/000.png", "d/dent/000.png"], ["000.png", "dent/000.png"]),
        (["d/x/../000.png", "d/dent/./000.png"], ["000.png", "dent/000.png"]),
        (["d/x/1.png", "d/X/1.png"], ["x/1.png", "X/1-2.png"]),
        (["d/a.bmp", "d/a.png/1.png"], ["a-2.png", "a.png/1.png"]),
        (["../up/1.png", "here/1.png"], None),
    ],
)
def test_pictures_lie_in_the_folders_of_their_images(
    paths: list[str], names: list[str] | None
) -> None:
    found = picture_names([Path(path) for path in paths])
    if names is None:
        names = ["up/1.png", f"{Path.cwd().name}/here/1.png"]
    assert found == names


def test_pictures_stay_within_the_folder_of_results(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    paths = [save_image(tmp_path / f"in/{kind}/0.png", part(60)) for kind in ("dent", "good")]
    out = tmp_path / "in" / "out"
    lines = lines_of(inspect_files(red_inspector(), paths, out))
    assert [line["overlay"] for line in lines] == ["overlays/dent/0.png", "overlays/good/0.png"]
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert written == sorted(str(Path(line[kind])) for line in lines for kind in ("map", "overlay"))
    everything = sorted((tmp_path / "in").rglob("*.png"))
    assert without_results(everything) == tuple(paths)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file names")
@pytest.mark.parametrize(
    "stem",
    [
        "x" * 246,
        "x" * 251,
        "名" * 82,
        "a b",
        "-rf",
        "Maß 🙂",
        ".hidden",
        'quote"back\\slash',
        "line\nbreak",
        os.fsdecode(b"caf\xe9"),
        os.fsdecode(b"\xff" * 246),
    ],
)
def test_any_name_that_a_file_can_have(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path, stem: str
) -> None:
    path = save_image(tmp_path / f"{stem}.png", part(200))
    other = save_image(tmp_path / "other" / path.name, part(60))
    summary = inspect_files(red_inspector(), [path, other], tmp_path / "out")
    lines = lines_of(summary)
    assert [line["image"] for line in lines] == [str(path), str(other)]
    assert summary.failures == ()
    for line in lines:
        assert (tmp_path / "out" / line["map"]).is_file()
        assert (tmp_path / "out" / line["overlay"]).is_file()
    assert lines[0]["map"] != lines[1]["map"]


def test_letters_are_written_as_they_are(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    path = save_image(tmp_path / "Maß 名.png", part(200))
    summary = inspect_files(red_inspector(), [path], tmp_path / "out")
    assert "Maß 名.png" in summary.results.read_text(encoding="utf-8")


def test_without_a_threshold_nothing_is_anomalous(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    path = save_image(tmp_path / "part.png", part(255))
    summary = inspect_files(red_inspector(None), [path], tmp_path / "out")
    (line,) = lines_of(summary)
    assert line["threshold"] is line["is_anomalous"] is line["decision"] is None
    assert line["regions"]
    assert summary.anomalous == 0


def test_images_for_review_are_counted(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    inspector = red_inspector(0.5)
    two = inspector.card.calibration.model_copy(update={"review_threshold": 0.25})
    inspector.card = inspector.card.model_copy(update={"calibration": two})
    paths = [
        save_image(tmp_path / f"{level}.png", np.full((64, 64, 3), level, np.uint8))
        for level in (10, 100, 20, 200, 30)
    ]
    summary = inspect_files(inspector, [*paths, tmp_path / "missing.png"], tmp_path / "out")
    decisions = [line.get("decision") for line in lines_of(summary)]
    assert decisions == ["pass", "review", "pass", "reject", "pass", None]
    assert (summary.passed, summary.review, summary.anomalous) == (3, 1, 1)


def test_pictures_of_earlier_inspections_are_not_taken_for_images(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    path = save_image(tmp_path / "part.png", part(255))
    kept = save_image(tmp_path / "maps/part.png", part(0))
    for name in ("first", "second"):
        inspect_files(red_inspector(), [path], tmp_path / name)

    assert without_results(sorted(tmp_path.rglob("*.png"))) == (kept, path)
    assert gather_good_images([tmp_path / "maps", tmp_path, tmp_path / "first/maps/part.png"]) == (
        kept,
        path,
    )
    for folder in ("first", "first/overlays"):
        with pytest.raises(DatasetError, match="no images but maps and overlays of an earlier"):
            read_normal_images(tmp_path / folder)


def test_no_images_give_an_empty_file_and_earlier_lines_go(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    path = save_image(tmp_path / "part.png", part(255))
    inspect_files(red_inspector(), [path, path], tmp_path / "out")
    assert len(lines_of(inspect_files(red_inspector(), [path], tmp_path / "out"))) == 1
    summary = inspect_files(red_inspector(), [], tmp_path / "out")
    assert summary == Summary(tmp_path / "out/results.jsonl", 0, 0, ())
    assert summary.results.read_bytes() == b""


def test_regions_of_earlier_images_go_and_nothing_else(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first, second = (save_image(tmp_path / f"{name}.png", part(255)) for name in ("a", "b"))
    inspect_files(red_inspector(), [first], out, coco=True)
    (out / "notes.txt").touch()
    inspect_files(red_inspector(), [second], out)
    assert names_in(out) == ["maps", "notes.txt", "overlays", "results.jsonl"]
    assert names_in(out / "maps") == ["a.png", "b.png"]


@pytest.mark.parametrize("blocked", ["out", "out/maps", "out/overlays"])
def test_a_file_where_a_folder_should_be(
    red_inspector: Callable[..., Inspector], tmp_path: Path, blocked: str
) -> None:
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("kept")
    with pytest.raises(OutputError, match="cannot be written") as raised:
        inspect_files(red_inspector(), [], tmp_path / "out")
    assert raised.value.path == tmp_path / blocked
    assert (tmp_path / blocked).read_text() == "kept"


def test_a_folder_where_the_results_should_be(
    red_inspector: Callable[..., Inspector], tmp_path: Path
) -> None:
    (tmp_path / "out/results.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"results\.jsonl: cannot be written"):
        inspect_files(red_inspector(), [], tmp_path / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_is_explained(
    run_python: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    ended = run_python(
        "import resource, signal, sys, pathlib, types\n"
        "import draem.inspection.folder as f, draem.errors as e\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "missing = [pathlib.Path('no', f'{number}.png') for number in range(100)]\n"
        "try:\n"
        "    nothing = types.SimpleNamespace(region_of_interest=None, batch_size=1)\n"
        "    nothing.inspect_prepared = lambda *_: []\n"
        "    f.inspect_files(nothing, missing, sys.argv[1])\n"
        "except e.OutputError as error:\n"
        "    print(error)\n",
        tmp_path,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{tmp_path / 'results.jsonl'}: cannot be written (File too lar")
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["image"] == str(Path("no/0.png"))


def test_the_decision_stands_in_a_corner(
    red_inspector: Callable[..., Inspector], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[100:140, 100:140, 0] = 200
    texts: list[str] = []
    monkeypatch.setattr(
        "draem.inspection.folder.draw_plate", lambda _, text, __: texts.append(text)
    )
    for threshold in (0.5, 0.9, None):
        draw_overlay(image, red_inspector(threshold).inspect(image))
    assert texts == ["reject  0.784 / 0.5", "pass  0.784 / 0.9", "score 0.784"]


def test_colours_follow_from_the_threshold(red_inspector: Callable[..., Inspector]) -> None:
    image = np.full((64, 64, 3), (60, 10, 10), np.uint8)
    assert (draw_overlay(image, red_inspector(0.5).inspect(image)) == image).all()
    assert (draw_overlay(image, red_inspector(0.25).inspect(image)) != image).any(axis=2).all()


def test_boxes_are_drawn_round_regions_alone(red_inspector: Callable[..., Inspector]) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    inspector = red_inspector(0.5)
    assert (draw_overlay(image, inspector.inspect(image)) == 0).all()
    image[20:40, 20:40, 0] = 255
    drawn = draw_overlay(image, inspector.inspect(image))
    ys, xs = np.nonzero((drawn == 255).all(axis=2))
    # A line of one pixel, on the outermost pixels of the region or just outside.
    for low, high in ((ys.min(), ys.max()), (xs.min(), xs.max())):
        assert low in (19, 20)
        assert high in (39, 40)
    assert 60 <= len(ys) <= 84
    assert (drawn[0, 0] == 0).all()


@pytest.mark.parametrize(("maps", "overlays"), [(False, True), (True, False), (False, False)])
def test_pictures_are_left_out_where_they_are_not_wanted(
    red_inspector: Callable[..., Inspector],
    save_image: Save,
    tmp_path: Path,
    maps: bool,
    overlays: bool,
) -> None:
    paths = [save_image(tmp_path / f"{red}.png", part(red)) for red in (250, 60)]
    out = tmp_path / "out"
    every = lines_of(inspect_files(red_inspector(), paths, tmp_path / "all"))
    lines = lines_of(inspect_files(red_inspector(), paths, out, maps=maps, overlays=overlays))
    folders = {name for name, wanted in (("maps", maps), ("overlays", overlays)) if wanted}
    assert set(names_in(out)) == {"results.jsonl"} | folders
    for line, whole in zip(lines, every, strict=True):
        for key, wanted in (("map", maps), ("overlay", overlays)):
            assert (key in line) == wanted
            whole.pop(key)
            line.pop(key, None)
        assert line == whole


def test_results_are_written_as_the_work_goes_on(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    paths = [save_image(tmp_path / f"{number}.png", part(60)) for number in range(8)]
    written: list[int] = []

    def look(done: int, total: int) -> None:
        written.append(len((tmp_path / "out" / "results.jsonl").read_text().splitlines()))

    inspect_files(red_inspector(), paths, tmp_path / "out", progress=look)
    assert written == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_first_result_does_not_wait_for_the_second_image(
    red_inspector: Callable[..., Inspector],
    save_image: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [save_image(tmp_path / f"{number}.png", part(60)) for number in range(3)]
    inspector = red_inspector()
    results = tmp_path / "out" / "results.jsonl"
    written: list[int] = []
    real = inspector._runtime.run

    def run(images: np.ndarray) -> object:
        written.append(len(results.read_text(encoding="utf-8").splitlines()))
        return real(images)

    monkeypatch.setattr(inspector._runtime, "run", run)
    inspect_files(inspector, paths, tmp_path / "out")
    assert written[:2] == [0, 1]


def test_what_stops_the_writing_stops_the_inspection(
    red_inspector: Callable[..., Inspector],
    save_image: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [save_image(tmp_path / f"{number}.png", part(60)) for number in range(20)]
    inspector = red_inspector()
    seen: list[int] = []
    real = inspector._runtime.run

    def run(images: np.ndarray) -> object:
        seen.append(len(seen))
        return real(images)

    monkeypatch.setattr(inspector._runtime, "run", run)

    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("draem.inspection.folder.write_png", full)
    with pytest.raises(OutputError, match="the disk is full"):
        inspect_files(inspector, paths, tmp_path / "out")
    assert len(seen) < 6


def test_results_are_marked_until_they_are_whole(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    paths = [save_image(tmp_path / f"{number}.png", part(60)) for number in range(3)]
    marker = tmp_path / "out" / "results.jsonl.incomplete"
    marked: list[bool] = []

    def stop(done: int, _: int) -> None:
        marked.append(marker.is_file())
        if done == 2 and len(marked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect_files(red_inspector(), paths, tmp_path / "out", progress=stop)
    assert marker.is_file()
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 2
    summary = inspect_files(red_inspector(), paths, tmp_path / "out", progress=stop)
    assert marked == [True] * 5
    assert names_in(tmp_path / "out") == ["maps", "overlays", "results.jsonl"]
    assert len(lines_of(summary)) == 3


def test_a_folder_that_another_inspection_writes_is_refused(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    paths = [save_image(tmp_path / f"{number}.png", part(60)) for number in range(2)]
    refused: list[str] = []

    def inspect_too(*_: int) -> None:
        with pytest.raises(OutputError, match="another process") as raised:
            inspect_files(red_inspector(), paths[:1], tmp_path / "out")
        refused.append(str(raised.value))

    summary = inspect_files(red_inspector(), paths, tmp_path / "out", progress=inspect_too)
    assert len(refused) == 2
    assert refused[0].startswith(str(tmp_path / "out"))
    assert [line["image"] for line in lines_of(summary)] == [str(path) for path in paths]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
@pytest.mark.parametrize("name", ["results.jsonl", "coco.json", "maps", "overlays", "maps/a"])
def test_nothing_is_written_through_a_link(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path, name: str
) -> None:
    photographs = [
        save_image(tmp_path / "photos" / folder / "0.png", part(60)) for folder in ("a", "b")
    ]
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "photos/results").write_text("kept")
    target = "photos/results" if "." in name else "photos/a" if "/" in name else "photos"
    (tmp_path / "out" / name).symlink_to(tmp_path / target)
    before = [path.read_bytes() for path in photographs]
    with pytest.raises(OutputError, match=f"{name}: is a link"):
        inspect_files(red_inspector(), photographs, tmp_path / "out", coco=True)
    assert (tmp_path / "photos/results").read_text() == "kept"
    assert [path.read_bytes() for path in photographs] == before
