"""`draem benchmark`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from draem.cli import EXIT_BAD_INPUT
from draem.cli.recipe_options import recipe_options
from draem.cli.shared_options import (
    CategoryNames,
    Device,
    LayoutName,
    MaskRuleName,
    RecipeFile,
)
from draem.cli.terminal import stderr_console, tell
from draem.config import DEFAULT_PRESET, PresetName

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from draem.benchmarking.benchmark import Watch
    from draem.benchmarking.runs import Run


@recipe_options(
    "network.image_size",
    "simulation.textures",
    "training.epochs",
    "training.steps",
    "training.minutes",
    "training.batch_size",
)
def command(
    *,
    root: Annotated[Path, typer.Argument(help="A data set in any known layout, or a manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables, the page and the runs.")],
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(get_args(PresetName))}; may be given again.",
            show_default=DEFAULT_PRESET,
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Numbers, such as 0,1,2.")] = "0",
    category: CategoryNames = None,
    layout: LayoutName = "auto",
    metric: Annotated[
        list[str] | None, typer.Option(help="A column of the tables; may be given again.")
    ] = None,
    mask_rule: MaskRuleName = "half",
    overrides: dict[str, dict[str, Any]],
    recipe: RecipeFile = None,
    device: Device = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            help="Spread the runs over a Ray cluster of this address, local or auto.",
            show_default="off",
        ),
    ] = None,
) -> None:
    """Train and test every category of a data set; the same command goes on after a stop."""
    from draem.benchmarking.benchmark import benchmark

    with _live_table(stderr_console()) as watch:
        found = benchmark(
            root,
            out,
            presets=preset or [DEFAULT_PRESET],
            seeds=_numbers(seeds),
            categories=category or (),
            layout=layout,
            metrics=metric or (),
            mask_rule=mask_rule,
            recipe=recipe,
            overrides=overrides,
            device=device,
            ray=ray,
            watch=watch,
        )
    for result in found.failed:
        name = f"{result['category']}, {result['preset']}, seed {result['seed']}"
        tell(f"failed: {name}: {result['error']}", err=True)
    tell((out / "results.md").read_text(encoding="utf-8"))
    tell(found.page.resolve())
    if found.failed:
        raise typer.Exit(EXIT_BAD_INPUT)


def _numbers(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        raise typer.BadParameter(f"--seeds {text!r}: give whole numbers, such as 0,1,2")
    return [int(word) for word in words]


@contextmanager
def _live_table(console: Console) -> Iterator[Watch]:
    """A table that shows what was found so far, and the run that is under way."""
    from rich.live import Live

    if not console.is_terminal:
        yield _tell_line
        return
    state: dict[str, Any] = {"results": (), "run": None, "total": 0, "since": time.monotonic()}

    def watch(run: Run | None, results: Sequence[Mapping[str, Any]], total: int) -> None:
        state.update(run=run, results=tuple(results), total=total, since=time.monotonic())

    with Live(
        get_renderable=lambda: _drawn(**state),
        console=console,
        refresh_per_second=2,
        transient=True,
    ):
        yield watch


def _tell_line(run: Run | None, results: Sequence[Mapping[str, Any]], total: int) -> None:
    if run is not None:
        name = f"{run.category}, {run.preset}, seed {run.seed}"
        tell(f"run {len(results) + 1} of {total}: {name}", err=True)


def _drawn(
    results: Sequence[Mapping[str, Any]], run: Run | None, total: int, since: float
) -> RenderableType:
    from rich.table import Table

    from draem.benchmarking.summary import FIGURES, SHOWN
    from draem.reporting.wording import percent

    table = Table(title=f"{len(results)} of {total} runs", title_justify="left")
    for name in ("Category", "Preset", "Seed", *(FIGURES[name] for name in SHOWN), "Time"):
        table.add_column(name, justify="left" if name in ("Category", "Preset") else "right")
    rows = [
        (
            *(str(result[name]) for name in ("category", "preset", "seed")),
            *(percent(result.get("figures", {}).get(name)) for name in SHOWN),
            _clock(result.get("training_seconds", 0) + result.get("test_seconds", 0))
            if result["status"] == "done"
            else "failed",
        )
        for result in results[-20:]
    ]
    if run is not None:
        elapsed = _clock(time.monotonic() - since)
        rows.append((run.category, run.preset, str(run.seed), *[""] * len(SHOWN), elapsed))
    for row in rows:
        table.add_row(*row)
    return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
