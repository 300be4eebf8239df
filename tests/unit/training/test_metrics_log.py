from __future__ import annotations

import csv
from pathlib import Path

import pytest

from draem.training.metrics_log import COLUMNS, keep_rows

HEADER = ",".join(COLUMNS)
EMPTY = "," * (len(COLUMNS) - 1)


def steps(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["step"] for row in csv.DictReader(file)]


def test_rows_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join([HEADER, *(f"{step}{EMPTY}" for step in (1, 10, 20, 30))]) + "\n")
    keep_rows(path, 20)
    assert path.read_text().splitlines()[0] == HEADER
    assert steps(path) == ["1", "10", "20"]


@pytest.mark.parametrize("rest", ["", "1", "13,0.5", ",", "step", "1\x00"])
def test_a_half_written_row_is_dropped(rest: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(f"{HEADER}\n1{EMPTY}\n10{EMPTY}\n{rest}", encoding="utf-8")
    keep_rows(path, 100)
    assert steps(path) == ["1", "10"]
    assert path.read_text().endswith("\n")


def test_an_empty_file_gets_its_header_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.touch()
    keep_rows(path, 5)
    assert path.read_text() == HEADER + "\n"


def test_a_missing_file_stays_missing(tmp_path: Path) -> None:
    keep_rows(tmp_path / "metrics.csv", 5)
    assert not (tmp_path / "metrics.csv").exists()
