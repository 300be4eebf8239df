"""`draem benchmark`, `draem datasets` and `draem convert` on a small data set."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from draem.benchmarking.benchmark import benchmark
from draem.benchmarking.paper import PAPER
from draem.datasets.layouts.registry import open_dataset
from draem.errors import InputError, RecipeError, RunExistsError
from draem.evaluation.evaluator import evaluate
from tests.integration.conftest import TINY_RECIPE, Outcome, draem_process

Cli = Callable[..., Outcome]

QUICK = {"training": {"steps": 2}}


@pytest.fixture
def data(shared_category: Path, tmp_path: Path) -> Path:
    """Two categories, one of them with the name of one of MVTec AD's."""
    root = tmp_path / "parts"
    for name in ("bottle", "part"):
        shutil.copytree(shared_category, root / name)
    return root


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(TINY_RECIPE.replace('preset = "compact"', "").replace("12", "2"))
    return path


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs)["href"] or "")


def test_every_category_and_seed_is_measured_and_not_repeated(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = {"presets": ["compact"], "recipe": recipe, "device": "cpu"}
    seen: list[tuple[str, int] | None] = []

    def watch(run, results, total):
        assert total in (2, 4)
        seen.append(run and (run.category, run.seed))

    first = benchmark(data, out, watch=watch, **options)
    assert seen == [("bottle", 0), ("part", 0), None]
    assert [result["status"] for result in first.results] == ["done"] * 2
    seen.clear()
    found = benchmark(data, out, seeds=[0, 1], watch=watch, **options)
    assert seen == [("bottle", 1), ("part", 1), None]

    assert [(r["category"], r["seed"]) for r in found.results] == [
        *(("bottle", 0), ("bottle", 1), ("part", 0), ("part", 1))
    ]
    assert found.results[0] == first.results[0]
    again = evaluate(out / "runs/part/compact/seed-1/model.safetensors", data / "part")
    figures = found.results[3]["figures"]
    assert figures["image_auroc"] == again.metrics["image_auroc"]
    assert figures["pixel_ap"] == pytest.approx(again.metrics["pixel_ap"])
    assert figures["miss_rate"] == again.miss_rate == 1 - figures["true_positive_rate"]
    right = sum((i.anomaly_score >= again.threshold) == bool(i.label) for i in again.images)
    assert figures["accuracy"] == right / len(again.images)
    assert found.results[0]["peak_memory_mib"] > 50

    bottle, part, mean = found.tables["compact"]
    values = [
        [r["figures"]["pixel_auroc"] for r in found.results if r["seed"] == s] for s in (0, 1)
    ]
    assert mean.cells["pixel_auroc"].values == tuple(map(statistics.mean, values))
    assert bottle.cells["pixel_auroc"].paper == PAPER["mvtec_ad"]["bottle"]["pixel_auroc"] == 0.991
    assert part.cells["pixel_auroc"].paper is mean.cells["pixel_auroc"].paper is None
    _check_files(out, found.results)


def test_runs_on_a_cluster_find_the_same(
    data: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    # Sums depend on the number of threads; a run on the cluster has one.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = {"presets": ["compact"], "recipe": recipe, "device": "cpu"}
    seen: list[int] = []

    def watch(_, results, total):
        assert total == 2
        seen.append(len(results))

    (data / "bottle/train/good/000.png").write_bytes(b"no image")
    here = benchmark(data, tmp_path / "here", **options)
    there = benchmark(data, tmp_path / "there", ray="local", watch=watch, **options)
    assert seen == [0, 1, 2]
    assert [result["status"] for result in here.results] == ["failed", "done"]
    for ours, theirs in zip(here.results, there.results, strict=True):
        assert ours.get("figures") == theirs.get("figures")
        assert ours.get("fingerprint") == theirs.get("fingerprint")
        assert ours.get("error") == theirs.get("error")
    assert there.results[1]["peak_memory_mib"] > 50
    # Finished runs are not repeated, wherever they were performed.
    again = benchmark(data, tmp_path / "there", **options)
    assert again.results[1] == there.results[1]


def _check_files(out: Path, results: tuple) -> None:
    rows = list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["image_auroc"]) for row in rows] == [
        result["figures"]["image_auroc"] for result in results
    ]
    assert json.loads((out / "results.json").read_text())["results"] == list(results)
    markdown = (out / "results.md").read_text(encoding="utf-8").splitlines()
    assert markdown[0] == "## `compact`"
    assert [line.split("|")[1].strip() for line in markdown[4:7]] == ["bottle", "part", "mean"]
    assert "(99.1)" in markdown[4]
    latex = (out / "results.tex").read_text(encoding="utf-8")
    assert latex.count(r"\\") == 4
    assert latex.count(r"\begin{tabular}{lrrrrrr}") == latex.count(r"\end{tabular}") == 1
    links = Links((out / "index.html").read_text(encoding="utf-8")).found
    assert len(links) == 4
    assert all((out / link).is_file() for link in links)


def test_one_category_that_fails_costs_only_itself(
    draem_cli: Cli, data: Path, recipe: Path, tmp_path: Path
) -> None:
    (data / "bottle/train/good/000.png").write_bytes(b"no image")
    (data / "bottle/train/good/001.png").unlink(missing_ok=True)
    outcome = draem_cli(
        *("benchmark", data, "--out", tmp_path / "out", "--preset", "compact"),
        *("--recipe", recipe, "--metric", "image_auroc", "--metric", "accuracy"),
    )
    assert outcome.status == 2
    assert "failed: bottle, compact, seed 0: " in outcome.err
    assert "000.png" in outcome.err
    assert "| part | " in outcome.out
    assert "| Image AUROC | Accuracy |" in outcome.out
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "these runs failed" in page
    # Repaired, it is run again, and only it.
    shutil.copy(data / "part/train/good/000.png", data / "bottle/train/good/000.png")
    again = draem_cli(
        *("benchmark", data, "--out", tmp_path / "out", "--preset", "compact"),
        *("--recipe", recipe),
    )
    assert again.status == 0, again.err
    assert again.err.count("run ") == 1


def test_other_data_or_options_need_another_folder(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = {"presets": ["compact"], "recipe": recipe, "categories": ["part"]}
    benchmark(data, out, **options)
    for change in ({"mask_rule": "upstream"}, {"overrides": {"training": {"steps": 3}}}):
        with pytest.raises(RunExistsError, match=f"another {next(iter(change))}"):
            benchmark(data, out, **options | change)
    with pytest.raises(RunExistsError, match="another root"):
        benchmark(data / "part", out, **options)


def test_wrong_options_are_told_before_any_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, error, message in (
        ({"presets": ["huge"]}, RecipeError, "no preset `huge`"),
        ({"seeds": []}, InputError, "there is no seed"),
        ({"seeds": [1, 1]}, InputError, "a seed is named twice"),
        ({"metrics": ["speed"]}, InputError, "metric is unknown"),
        ({"categories": ["cork"]}, InputError, "no category 'cork'"),
        ({"overrides": {"training": {"steps": -1}}}, RecipeError, "steps"),
    ):
        with pytest.raises(error, match=message):
            benchmark(data, out, **options)
    assert not (out / "runs").exists()


def test_a_killed_benchmark_goes_on(data: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("benchmark", data, "--out", out, "--preset", "compact", "--recipe", recipe)
    process = draem_process(*command)
    first, second = (out / f"runs/{name}/compact/seed-0" for name in ("bottle", "part"))
    deadline = time.monotonic() + 120
    while not (second / "recipe.toml").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = (first / "result.json").read_bytes()
    process = draem_process(*command)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert (first / "result.json").read_bytes() == kept
    assert json.loads((second / "result.json").read_text())["status"] == "done"


def test_datasets_are_shown(draem_cli: Cli, data: Path) -> None:
    outcome = draem_cli("datasets", data)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "MVTec AD, MPDD and alike (mvtec_ad), 2 categories"
    assert [line.split()[0] for line in lines[2:]] == ["bottle", "part"]
    sample = open_dataset(data)["part"].test_samples()
    assert lines[3].split()[2:4] == [str(sum(s.label == v for s in sample)) for v in (0, 1)]
    for mask in (data / "part/ground_truth").rglob("*.png"):
        mask.unlink()
    broken = draem_cli("datasets", data)
    assert broken.status == 2
    assert "has no mask" in broken.err


@pytest.mark.parametrize("to", ["mvtec", "manifest"])
def test_a_converted_data_set_is_the_same(
    draem_cli: Cli, data: Path, tmp_path: Path, to: str
) -> None:
    out = tmp_path / ("again" if to == "mvtec" else "again.csv")
    outcome = draem_cli("convert", data, "--to", to, "--out", out, "--category", "part")
    assert outcome.status == 0, outcome.err
    ours, theirs = open_dataset(out)["part"], open_dataset(data)["part"]
    assert [path.read_bytes() for path in ours.normal_images()] == [
        path.read_bytes() for path in theirs.normal_images()
    ]
    first, second = ours.test_samples(), theirs.test_samples()
    assert [(s.label, s.defect, s.image.read_bytes(), len(s.masks)) for s in first] == [
        (s.label, s.defect, s.image.read_bytes(), len(s.masks)) for s in second
    ]
    assert draem_cli("convert", data, "--to", to, "--out", out).status == 2
