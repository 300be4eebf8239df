"""`draem datasets` and `draem convert`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from draem.cli import EXIT_BAD_INPUT
from draem.cli.shared_options import CategoryNames, LayoutName
from draem.cli.terminal import bar, stderr_console, tell

if TYPE_CHECKING:
    from draem.datasets.layouts.category import Category

Root = Annotated[Path, typer.Argument(help="A data set's folder, or a manifest.")]


def show(root: Root, layout: LayoutName = "auto") -> None:
    """Say in which layout a data set is, and what each category holds."""
    from draem.datasets.layouts.registry import LAYOUTS, open_dataset
    from draem.errors import DraemError, counted

    dataset = open_dataset(root, layout)
    number = len(dataset.categories)
    tell(
        f"{LAYOUTS[dataset.layout].title} ({dataset.layout}), "
        + (f"{number} categories" if number != 1 else counted(number, "category"))
    )
    rows: list[tuple[str, ...]] = [
        ("", "train", "test normal", "test anomalous", "with masks", "defects")
    ]
    problems: list[DraemError] = []
    for category in dataset.categories.values():
        try:
            rows.append(_counts(category))
        except DraemError as error:
            rows.append((category.name, *["?"] * 5))
            problems.append(error)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:5], widths[1:5], strict=True)]
        tell("  ".join([*cells, row[5]]).rstrip())
    for problem in problems:
        tell(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(EXIT_BAD_INPUT)


def _counts(category: Category) -> tuple[str, ...]:
    samples = category.test_samples()
    labels = Counter(sample.label for sample in samples)
    masked = sum(bool(sample.masks) for sample in samples)
    defects = Counter(sample.defect for sample in samples if sample.label)
    return (
        category.name,
        *(str(n) for n in (len(category.normal_images()), labels[0], labels[1], masked)),
        ", ".join(f"{name} {count}" for name, count in sorted(defects.items())),
    )


def convert_command(
    root: Root,
    out: Annotated[Path, typer.Option(help="A new folder, or a new .csv file.")],
    to: Annotated[
        Literal["mvtec", "manifest"],
        typer.Option(help="MVTec AD's layout, with images copied, or a table of paths."),
    ] = "mvtec",
    layout: LayoutName = "auto",
    category: CategoryNames = None,
) -> None:
    """Write a data set in MVTec AD's layout, or as a manifest."""
    from draem.datasets.layouts.converting import convert
    from draem.datasets.layouts.registry import open_dataset

    dataset = open_dataset(root, layout)
    chosen = [dataset[name] for name in category or dataset.categories]
    with bar(stderr_console(), "Converting") as progress:
        tell(convert(chosen, out, to, progress))
