"""`metrics.csv`: losses and validation figures of a run, one row per logged step."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from draem.files import explained_output, refuse_link, write_text

COLUMNS = (
    "step",
    "seconds",
    "learning_rate",
    "loss",
    "l2",
    "ssim",
    "focal",
    "val_loss",
    "val_l2",
    "val_ssim",
    "val_focal",
    "val_image_auroc",
    "val_pixel_auroc",
    "val_pixel_ap",
)


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Append a row, after the header if the file is new.

    Raises:
        OutputError: The disk is full, or the file cannot be written to or is a link.
    """
    refuse_link(path)
    with (
        explained_output(path, "Make room on the disk"),
        path.open("a", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, restval="")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def keep_rows(path: Path, last_step: int) -> None:
    """Drop rows after a step, and half-written ones that a full disk or a crash left."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS)]
    kept = [row for row in rows if row[0].isdecimal() and int(row[0]) <= last_step]
    write_text(path, "".join(",".join(row) + "\n" for row in (COLUMNS, *kept)))
