"""Data sets whose split is in a file: VisA, Real-IAD, and manifests of anyone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from draem.datasets.folders import subfolders
from draem.datasets.layouts.category import (
    Categories,
    Category,
    listed_images,
    listed_samples,
)
from draem.datasets.samples import Sample, is_good, normal_sample
from draem.errors import DatasetError, missing_dependency

MANIFEST_SUFFIXES = (".csv", ".parquet")
MANIFEST_COLUMNS = ("image", "label", "split", "mask", "category")
_NEEDED = MANIFEST_COLUMNS[:3]
_MOST_BYTES = 2**28

Row = Mapping[str, str]


def find_manifest(path: Path) -> Categories:
    """A table of images: CSV or Parquet with the columns of `MANIFEST_COLUMNS`.

    `image` and `mask` are paths, from the manifest's folder if they are not absolute. `label` is
    `normal`, another name of good parts or 0, or else the name of the defect, or 1. `split` is
    `train` or `test`; rows of any other split are not used. `mask` and `category` may be missing.

    Raises:
        DatasetError: The file is no such table, or a row lacks something; it names the line.
    """
    if path.suffix.lower() not in MANIFEST_SUFFIXES or not path.is_file():
        return {}
    rows = list(_rows(path))
    by_category: dict[str, list[Row]] = {}
    for row in rows:
        by_category.setdefault(row.get("category") or path.stem, []).append(row)
    return {name: _listed(name, path, path.parent, own) for name, own in by_category.items()}


def _listed(
    name: str, root: Path, folder: Path, rows: list[Row], layout: str = "manifest"
) -> Category:
    def normal() -> Iterator[Path]:
        return (folder / row["image"] for row in rows if _use(row) == "train" and not _defect(row))

    def samples() -> Iterator[Sample]:
        for row in rows:
            if _use(row) == "test":
                yield _sample(folder, row, numbered=layout == "visa")

    return Category(
        name,
        root,
        layout,
        lambda: listed_images(root, normal()),
        lambda: listed_samples(root, samples()),
    )


def _sample(folder: Path, row: Row, *, numbered: bool) -> Sample:
    image, defect = folder / row["image"], _defect(row)
    if not defect:
        return normal_sample(image)
    mask = row.get("mask")
    return Sample(image, 1, defect, (folder / mask,) if mask else (), numbered=numbered)


def _use(row: Row) -> str:
    return row["split"].strip().lower()


def _defect(row: Row) -> str:
    """The name of a row's defect; empty if there is none."""
    label = row["label"].strip()
    if label == "0" or is_good(label):
        return ""
    return "anomalous" if label == "1" else label


def _rows(path: Path) -> Iterator[Row]:
    """The rows of a table, with the needed columns filled in."""
    read = _parquet_rows if path.suffix.lower() == ".parquet" else _csv_rows
    for line, row in read(path):
        empty = [name for name in _NEEDED if not (row.get(name) or "").strip()]
        if empty:
            raise DatasetError(
                f"line {line} has no `{empty[0]}`",
                path=path,
                expected=f"the columns {', '.join(_NEEDED)}, and perhaps mask and category",
                found=", ".join(name for name in row if name) or "none",
            )
        yield row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if path.stat().st_size > _MOST_BYTES:
        raise DatasetError(
            "is too large for a manifest",
            path=path,
            expected=f"at most {_MOST_BYTES // 2**20} MiB; Parquet is smaller",
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            # Spreadsheets write semicolons where the comma is the decimal point.
            delimiter = max(",;\t", key=first.count)
            reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            for row in reader:
                yield reader.line_num, {name: value or "" for name, value in row.items() if name}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"is not a CSV table in UTF-8 ({error})", path=path) from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise missing_dependency(error, "reading a Parquet manifest", "parquet") from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise DatasetError(f"is not a Parquet table ({error})", path=path) from error
    for number, row in enumerate(table.to_pylist(), 1):
        yield (
            number,
            {
                name.strip().lower(): "" if value is None else str(value)
                for name, value in row.items()
            },
        )


def find_visa(root: Path) -> Categories:
    """VisA: `CATEGORY/Data/Images`, the split in `split_csv/1cls.csv`.

    Masks hold the number of the kind of defect; every number above 0 is marked.

    Source:
        Zou et al., SPot-the-Difference, ECCV 2022, and the table published with its data.
    """
    for folder, only in ((root, None), (root.parent, root.name)):
        table = folder / "split_csv" / "1cls.csv"
        if table.is_file():
            rows: dict[str, list[Row]] = {}
            for row in _rows(table):
                rows.setdefault(row["object"], []).append(row)
            return {
                name: _listed(name, folder / name, folder, own, "visa")
                for name, own in rows.items()
                if only in (None, name)
            }
    if any(
        (folder / "Data" / "Images" / "Normal").is_dir() for folder in (root, *subfolders(root))
    ):
        raise DatasetError(
            "is VisA without its split",
            path=root,
            expected="split_csv/1cls.csv next to the categories, as it is published",
        )
    return {}


def find_real_iad(root: Path) -> Categories:
    """Real-IAD: `realiad_SIZE/CATEGORY`, the split in `realiad_jsons/**/CATEGORY.json`.

    Of several sizes the largest is taken.

    Source:
        Wang et al., Real-IAD, CVPR 2024, and the files published with its data.
    """
    sizes = [
        f
        for f in subfolders(root)
        if f.name.partition("_")[2].isdecimal() and f.name.startswith("realiad_")
    ]
    splits = next(
        (
            f
            for f in (root / "realiad_jsons" / "realiad_jsons", root / "realiad_jsons")
            if any(f.glob("*.json"))
        ),
        None,
    )
    if not sizes or splits is None:
        return {}
    images = max(sizes, key=lambda folder: int(folder.name.partition("_")[2]))
    return {file.stem: _real_iad(file, images) for file in sorted(splits.glob("*.json"))}


def _real_iad(file: Path, images: Path) -> Category:
    def read(split: str) -> Iterable[tuple[Path, str, Path | None]]:
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            folder, good = images / content["meta"]["prefix"], content["meta"]["normal_class"]
            for entry in content[split]:
                defect = "" if entry["anomaly_class"] == good else str(entry["anomaly_class"])
                mask = entry["mask_path"]
                yield folder / entry["image_path"], defect, folder / mask if mask else None
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"is not a split of Real-IAD ({error!r})",
                path=file,
                expected="meta, train and test, as published",
            ) from error

    def samples() -> Iterator[Sample]:
        for image, defect, mask in read("test"):
            yield (
                Sample(image, 1, defect, (mask,) if mask else ())
                if defect
                else normal_sample(image)
            )

    return Category(
        file.stem,
        images / file.stem,
        "real_iad",
        lambda: listed_images(file, (image for image, defect, _ in read("train") if not defect)),
        lambda: listed_samples(file, samples()),
    )
