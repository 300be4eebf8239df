from __future__ import annotations

import math
from pathlib import Path

import pytest

from draem.reporting.wording import (
    HEADLINE,
    image_name,
    percent,
    percent_sign,
    score_text,
    size_text,
)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0"),
        (1e-9, "<0.1"),
        (0.0005, "0.1"),
        (0.5, "50.0"),
        (0.9994, "99.9"),
        (0.9995, ">99.9"),
        (1.0, "100.0"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_only_perfect_shares_read_as_perfect(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_a_dash_takes_no_percent_sign() -> None:
    assert (percent_sign(math.nan), percent_sign(0.25)) == ("–", "25.0%")


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.5, "0.5000"),
        (0.0009996, "1.0 × 10⁻³"),
        (1.0, "1"),
        (0.99994, "0.999940"),
        (1 - 6e-8, "0.999999940"),
        (math.nan, "–"),
    ],
)
def test_scores_keep_their_telling_digits(score: float, text: str) -> None:
    assert score_text(score) == text


def test_sizes() -> None:
    assert size_text([512, 512]) == "512 × 512 px"
    assert size_text("native") == "native"


def test_headline_is_in_reading_order() -> None:
    assert [metric.name for metric in HEADLINE] == [
        "Image AUROC",
        "Pixel AUROC",
        "Pixel AP",
        "AUPRO 0.30",
    ]


def test_an_image_elsewhere_keeps_its_path() -> None:
    assert image_name(Path("other/a.png"), Path("screw")) == "other/a.png"
