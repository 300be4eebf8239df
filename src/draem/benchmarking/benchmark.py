"""Train and test every category of a data set, preset by preset and seed by seed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from draem.benchmarking.cluster import Result, perform_on_cluster
from draem.benchmarking.page import render_page
from draem.benchmarking.runs import Plan, Run, earlier_result, perform
from draem.benchmarking.summary import (
    FIGURES,
    Row,
    as_csv,
    as_latex,
    as_markdown,
    shown_figures,
    summarise,
)
from draem.config import DEFAULT_PRESET
from draem.datasets.layouts.registry import AUTO, open_dataset
from draem.errors import InputError, RunExistsError, TrainingInterrupted
from draem.evaluation.result import MaskRule
from draem.files import locked, make_folder, write_text
from draem.training.recipe import make_recipe

_PLAN = "benchmark.json"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What a benchmark found.

    Attributes:
        results: One a run, as `results.json` has them.
        tables: By preset, a row a category and one of the mean.
        page: `index.html`, with links to the report of each run.
    """

    results: tuple[Mapping[str, Any], ...]
    tables: Mapping[str, Sequence[Row]]
    page: Path

    @property
    def failed(self) -> tuple[Mapping[str, Any], ...]:
        """The runs that ended with an error."""
        return tuple(result for result in self.results if result["status"] == "failed")


Watch = Callable[[Run | None, Sequence[Mapping[str, Any]], int], None]
"""Called with the run that begins, what was found so far, and the number of runs in all."""


def benchmark(
    root: str | Path,
    out: str | Path,
    *,
    presets: Sequence[str] = (DEFAULT_PRESET,),
    seeds: Sequence[int] = (0,),
    categories: Sequence[str] = (),
    layout: str = AUTO,
    metrics: Sequence[str] = (),
    mask_rule: MaskRule = "half",
    recipe: str | Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    ray: str | None = None,
    watch: Watch | None = None,
) -> Benchmark:
    """Train and test every category with every preset and seed, and write tables and a page.

    Each run has a process of its own, so a script must call this below
    `if __name__ == "__main__":`. A finished run is not repeated; one that was cut short goes
    on where it was. So after a kill, at whatever moment, the same call goes on.

    Args:
        root: The data set, in any layout.
        out: Receives `index.html`, `results.csv`, `.json`, `.md` and `.tex`, and in `runs` the
            folder of each run with its model and report.
        presets: Their names.
        seeds: The numbers that all randomness starts from.
        categories: Which to take; all if empty.
        layout: The data set's layout, if it is not to be recognised.
        metrics: Which figures the tables show, keys of `FIGURES`; the usual ones if empty.
        mask_rule: As in `evaluate`.
        recipe: A TOML file with keys of the recipe.
        overrides: Options of the recipe, as `make_recipe` takes them.
        device: Where to train and to test.
        ray: Address of a Ray cluster, as `ray.init` takes it, or `local`: as many runs at a time as
            it has CPUs, or GPUs if the device is `cuda`. The data, `out` and the recipe must be
            where every node sees them. One run after the other on this machine if omitted.
        watch: Sees the runs begin and end.

    Raises:
        DatasetError: The data set is in no layout, or lacks a category.
        RecipeError: A preset or an option is unknown, or out of range.
        InputError: A metric is unknown, or there are no presets or seeds.
        RunExistsError: The folder holds a benchmark of other data or with other options.
        OutputError: Another process writes into the folder, or it cannot be written.
        TrainingInterrupted: Ctrl-C was pressed; the same call goes on.
        MissingDependencyError: Ray is asked for and not installed.
    """
    dataset = open_dataset(root, layout)
    chosen = [dataset[name].name for name in categories] or list(dataset.categories)
    _check(presets, seeds, metrics)
    for preset in presets:  # wrong options are told before any run
        make_recipe(preset, recipe, overrides)
    out = make_folder(out).resolve()
    plan = Plan(
        Path(root).resolve(),
        dataset.layout,
        out,
        {name: dict(options) for name, options in (overrides or {}).items()},
        None if recipe is None else Path(recipe).resolve(),
        mask_rule,
        device,
    )
    runs = [Run(*run) for run in itertools.product(chosen, presets, seeds)]
    with locked(out):
        _keep_plan(plan)
        found = {run: earlier for run in runs if (earlier := earlier_result(run, out))}
        left = [run for run in runs if run not in found]
        performed = perform_on_cluster(left, plan, ray) if ray else _one_by_one(left, plan)
        for run, result in performed:
            if result is not None:
                found[run] = result
                _write(_in_order(found, runs), plan, metrics)
            elif watch:
                watch(run, _in_order(found, runs), len(runs))
        results = _in_order(found, runs)
        if watch:
            watch(None, results, len(runs))
        return _write(results, plan, metrics)


def _in_order(found: Mapping[Run, Result], runs: Sequence[Run]) -> list[Result]:
    return [found[run] for run in runs if run in found]


def _check(presets: Sequence[str], seeds: Sequence[int], metrics: Sequence[str]) -> None:
    for name, values in (("preset", presets), ("seed", seeds)):
        if not values:
            raise InputError(f"there is no {name}", expected=f"at least one {name}")
        if len(set(values)) < len(values):
            raise InputError(f"a {name} is named twice", found=", ".join(map(str, values)))
    for name in metrics:
        if name not in FIGURES:
            raise InputError("this metric is unknown", expected=", ".join(FIGURES), found=name)


def _keep_plan(plan: Plan) -> None:
    """Write what all runs have in common, or check that it is what earlier ones had."""
    facts = dataclasses.asdict(plan) | {"recipe": plan.recipe and plan.recipe.read_text("utf-8")}
    del facts["out"], facts["device"]
    text = json.dumps(facts, indent=2, default=str) + "\n"
    path = plan.out / _PLAN
    if not path.is_file():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(text)
        other = [name for name in now if earlier.get(name) != now[name]]
        raise RunExistsError(
            f"holds a benchmark with another {' and another '.join(other)}",
            path=plan.out,
            expected="the same data and options; presets, seeds and categories may be added",
            found="; ".join(f"{name}: {earlier.get(name)}" for name in other),
            hint="Give another folder with --out",
        )


def _one_by_one(runs: Sequence[Run], plan: Plan) -> Iterator[tuple[Run, Result | None]]:
    """Each run as it begins, with None, and then with its result."""
    for run in runs:
        yield run, None
        yield run, _in_own_process(run, plan)


def _in_own_process(run: Run, plan: Plan) -> Result:
    """Perform a run where its memory can be measured and a crash costs only itself."""
    with _pool() as pool:
        try:
            return pool.submit(perform, run, plan).result()
        except BrokenProcessPool:
            return dataclasses.asdict(run) | {
                "status": "failed",
                "error": "the process of this run was killed, perhaps for want of memory",
            }
        except KeyboardInterrupt:
            raise TrainingInterrupted(
                "the benchmark was stopped", hint="Start it again with the same command"
            ) from None


@contextlib.contextmanager
def _pool() -> Iterator[ProcessPoolExecutor]:
    context = get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when the one that started it is killed, so that another may take the run."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write(results: Sequence[Mapping[str, Any]], plan: Plan, metrics: Sequence[str]) -> Benchmark:
    """Write the tables and the page, also between the runs."""
    figures = shown_figures(plan.layout, metrics)
    tables = summarise(results, plan.layout, figures)
    document = {"layout": plan.layout, "mask_rule": plan.mask_rule, "results": list(results)}
    write_text(plan.out / "results.json", json.dumps(document, indent=2) + "\n")
    write_text(plan.out / "results.csv", as_csv(results))
    write_text(plan.out / "results.md", as_markdown(tables))
    write_text(plan.out / "results.tex", as_latex(tables))
    page = write_text(plan.out / "index.html", render_page(tables, plan, results))
    return Benchmark(tuple(results), tables, page)
