from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draem.errors import OutputError, shown
from draem.evaluation.outcome import ScoredImage
from draem.evaluation.result import Evaluation, Example
from draem.reporting import write_report
from draem.reporting.report import render_report

ReadPage = Callable[[str], Any]


def test_first_screen_says_what_was_tested_and_what_came_out(
    evaluation: Evaluation, tmp_path: Path, read_page: ReadPage
) -> None:
    path = write_report(evaluation, tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    text = read_page(path.read_text("utf-8")).text
    for words in (
        "Category screw",
        "Tested on 4 good images, 6 defective",
        "Model preset small",
        "Image size 24 × 32 px (height × width)",
        "Image AUROC 90.0%",
        "Pixel AUROC 97.0%",
        "Pixel AP 60.0%",
        "AUPRO 0.30 88.0%",
        "1 of 4 good images would be rejected 25.0%",
        "2 of 6 defective images would pass 33.3%",
        "good 3 1 false alarms",
        "defective 2 missed 4",
        "score is 0.5000 or higher",
        "to reject on average at most 5% of them; this holds for parts like these",
    ):
        assert words in text
        assert text.index(words) < text.index("How far apart good and defective images are")


def test_a_review_threshold_tells_who_goes_to_review(
    evaluation: Evaluation, read_page: ReadPage
) -> None:
    plain = read_page(render_report(evaluation)).text
    assert "review" not in plain
    assert "Pixels are marked" not in plain
    model = {
        **evaluation.model,
        "promised_review_rate": 0.2,
        "pixel_threshold": 0.75,
        "pixel_false_positive_rate": 0.001,
    }
    text = read_page(render_report(replace(evaluation, review_threshold=0.3, model=model))).text
    assert "Worst misses" not in text
    for words in (
        "1 of 4 good images would be rejected 25.0%",
        "1 of 4 good images would go to review 25.0%",
        "1 of 6 defective images would go to review 16.7%",
        "1 of 6 defective images would pass 16.7%",
        "passes goes to review is rejected good 2 1 1 false alarms defective 1 missed 1 4",
        "Defective images not rejected",
        "defective images left of the review line are missed",
        "review 0.3000",
        "tested missed in review",
        "dent 3 0 1 70.0",
        "scratch 3 1 0 80.0",
        "all 6 1 1 90.0",
        (
            "goes to review when its score is 0.3000 or higher but not rejected. On average at "
            "most 20% of good images do not pass."
        ),
        (
            "anomaly map is 0.7500 or higher: on average at most 5% of good images have more than "
            "0.1% of their pixels there."
        ),
    ):
        assert words in text, words


def test_tiles_are_called_so(evaluation: Evaluation, read_page: ReadPage) -> None:
    tiled = replace(evaluation, model={**evaluation.model, "tile_overlap": 8})
    text = read_page(render_report(tiled)).text
    assert "Tiles of 24 × 32 px (height × width)" in text
    assert "Image size" not in text


def test_title_is_the_callers_or_the_categorys(evaluation: Evaluation, read_page: ReadPage) -> None:
    named = replace(evaluation, model={**evaluation.model, "category": "Bolt M6"})
    assert read_page(render_report(named)).text.startswith("Bolt M6 – evaluation by draem")
    assert read_page(render_report(evaluation, title="Line 4 & 5")).text.startswith("Line 4 & 5 –")


def test_table_lists_defect_types_hardest_first(
    evaluation: Evaluation, read_page: ReadPage
) -> None:
    text = read_page(render_report(evaluation)).text
    dent = text.index("dent 3 1 70.0 95.0 85.0 97.0 – 55.0 88.0 66.0")
    scratch = text.index("scratch 3 1 80.0 95.0 85.0 97.0 60.0 55.0 88.0 66.0")
    whole = text.index("all 6 2 90.0 95.0 85.0 97.0 60.0 55.0 88.0 66.0")
    assert dent < scratch < whole


def test_an_image_at_the_threshold_is_not_missed(
    evaluation: Evaluation, read_page: ReadPage
) -> None:
    text = read_page(render_report(replace(evaluation, threshold=0.7))).text
    assert "dent 3 1 70.0" in text
    assert "defective 2 missed 4" in text


def test_everything_about_the_model_is_told(evaluation: Evaluation, read_page: ReadPage) -> None:
    model = {
        "fingerprint": "abc123",
        "recipe": {"learning_rate": 1e-4, "resume": False, "steps": 2000, "texture": None},
        "sizes": (256, 320),
        "nothing": [],
    }
    text = read_page(render_report(replace(evaluation, model=model))).text
    for words in (
        "fingerprint abc123",
        "recipe.learning_rate 0.0001",
        "recipe.resume no",
        "recipe.steps 2000",
        "recipe.texture –",
        "sizes 256, 320",
        "nothing –",
        "Model preset –",
        "mask rule half",
    ):
        assert words in text
    assert "to reject on average" not in text


@pytest.mark.parametrize(
    ("rule", "words"), [("half", "at least one half"), ("upstream", "exactly")]
)
def test_mask_rule_is_explained(
    evaluation: Evaluation, read_page: ReadPage, rule: Any, words: str
) -> None:
    text = read_page(render_report(replace(evaluation, mask_rule=rule))).text
    assert f"Mask rule ‘{rule}’" in text
    assert words in text


def test_the_page_needs_nothing_else(evaluation: Evaluation, read_page: ReadPage) -> None:
    html = render_report(evaluation)
    page = read_page(html)
    assert len(page.all("img")) == 2 + 4 * 5
    for _, attributes in page.elements:
        for name in ("src", "srcset", "poster", "data", "action", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith(
                "data:image/"
            ) or name not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not re.search(r"https?://|@import|url\(", html)


def test_every_link_but_close_leads_to_one_element(
    evaluation: Evaluation, read_page: ReadPage
) -> None:
    page = read_page(render_report(evaluation))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"][1:] for attributes in page.all("a")}
    assert targets - {"closed"} <= set(ids)
    assert "closed" not in ids


HOSTILE = '<script>alert("1")</script> \' & "x" onerror=y 部品 \u202e.png'


def test_hostile_names_stay_text(
    evaluation: Evaluation, make_example: Callable[..., Example], read_page: ReadPage
) -> None:
    scored = ScoredImage(Path("parts/screw/test") / HOSTILE.replace("/", "\\"), HOSTILE, 1, 0.1)
    hostile = replace(
        evaluation,
        images=(*evaluation.images, scored),
        data=Path("parts/screw"),
        model={"preset": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}, "category": "caf\udce9"},
        metrics_by_defect={HOSTILE: evaluation.metrics},
        misses=(make_example(scored),),
    )
    html = render_report(hostile, title=HOSTILE)
    page = read_page(html)
    assert "<script" not in html
    assert not any(name.startswith("on") for _, found in page.elements for name in found)
    assert "\u202e" not in html
    assert page.text.count(" ".join(shown(HOSTILE).split())) >= 5
    names = [attributes["alt"] for attributes in page.all("img")]
    assert f"image of test/{shown(HOSTILE.replace('/', chr(92)))}" in names
    html.encode("utf-8")


def test_without_a_threshold(evaluation: Evaluation, read_page: ReadPage) -> None:
    page = read_page(render_report(replace(evaluation, threshold=None)))
    assert "No threshold" in page.text
    assert "would pass 33" not in page.text
    assert page.all("line", "threshold") == []
    assert page.all("circle", "point") == []
    assert "dent 3 – 70.0" in page.text


def test_without_anomalous_images(no_anomalous: Evaluation, read_page: ReadPage) -> None:
    page = read_page(render_report(no_anomalous))
    assert "There are no defective test images" in page.text
    assert "Image AUROC –" in page.text
    assert "1 of 4 good images would be rejected" in page.text
    assert "would pass" not in page.text.replace("ones would pass", "")
    assert page.text.count("Not defined for these test images.") == 3
    assert page.all("path") == []
    assert "no defective images tested" in page.text
    assert "none tested" in page.text


def test_without_good_images(evaluation: Evaluation, read_page: ReadPage) -> None:
    page = read_page(
        render_report(replace(evaluation, images=evaluation.images[4:], false_alarms=(), curves={}))
    )
    assert "There are no good test images" in page.text
    assert "no good images tested" in page.text
    assert "0 good images, 6 defective" in page.text


def test_without_masks(evaluation: Evaluation, read_page: ReadPage) -> None:
    metrics = {
        key: value if key.startswith("image_") else math.nan
        for key, value in evaluation.metrics.items()
    }
    curves = {key: evaluation.curves[key] for key in ("image_roc", "image_pr")}
    misses = tuple(replace(example, mask=None) for example in evaluation.misses)
    page = read_page(
        render_report(replace(evaluation, metrics=metrics, curves=curves, misses=misses))
    )
    assert "There are no masks" in page.text
    assert "Pixel AP –" in page.text
    assert len(page.all("path", "line")) == 2


@pytest.mark.parametrize("label", [0, 1])
def test_one_image(
    no_anomalous: Evaluation,
    make_example: Callable[..., Example],
    read_page: ReadPage,
    label: int,
) -> None:
    scored = ScoredImage(Path("a.png"), "dent" if label else "normal", label, 1e-6)
    kind = "misses" if label else "false_alarms"
    single = replace(no_anomalous, images=(scored,), false_alarms=(), counts={})
    page = read_page(render_report(replace(single, **{kind: (make_example(scored),)})))
    assert "score 1.0 × 10⁻⁶" in page.text
    assert len(page.all("rect")) == 1


def test_no_image_at_all(no_anomalous: Evaluation, read_page: ReadPage) -> None:
    empty = replace(no_anomalous, images=(), false_alarms=(), counts={}, threshold=None)
    assert "0 good images, 0 defective" in read_page(render_report(empty)).text


def test_hundreds_of_defect_types(evaluation: Evaluation, read_page: ReadPage) -> None:
    rng = np.random.default_rng(0)
    defects = {
        f"type {number}": {**evaluation.metrics, "image_auroc": float(rng.random())}
        for number in range(400)
    }
    counts = {"normal": 4, "anomalous": 400, **dict.fromkeys(defects, 1)}
    start = time.perf_counter()
    page = read_page(render_report(replace(evaluation, metrics_by_defect=defects, counts=counts)))
    assert time.perf_counter() - start < 5
    assert len(re.findall(r"type \d+ 1 0 ", page.text)) == 400


def test_charts_draw_the_curves(evaluation: Evaluation, read_page: ReadPage) -> None:
    page = read_page(render_report(evaluation))
    assert [path["d"] for path in page.all("path", "line")] == [
        "M0 100L100 0",
        "M0 100L100 0",
        "M0 0V50H100",
        "M0 0V50H100",
        "M0 100L33.33 50L100 0",
        "M0 100L16.67 75",
    ]
    (line,) = page.all("line", "threshold")
    assert line["x1"] == line["x2"] == "50.000%"
    assert [(point["cx"], point["cy"]) for point in page.all("circle", "point")] == [
        ("25.000%", "33.333%"),
        ("66.667%", "20.000%"),
    ]


def test_a_full_report_stays_small(
    evaluation: Evaluation, make_example: Callable[..., Example], tmp_path: Path
) -> None:
    """Noise compresses worse than any photograph, so photographs stay well below this."""
    example = make_example(evaluation.misses[0].scored, (512, 512))
    many = (example,) * 8
    full = replace(evaluation, misses=many, false_alarms=many, hits=many)
    assert write_report(full, tmp_path).stat().st_size < 5_000_000


def test_a_file_in_the_folders_place_is_explained(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken"):
        write_report(evaluation, tmp_path / "taken")
