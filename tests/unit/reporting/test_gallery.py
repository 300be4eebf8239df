from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from draem.evaluation.outcome import ScoredImage
from draem.evaluation.result import Evaluation, Example
from draem.imaging.colormap import heat, overlay
from draem.reporting.gallery import Picture, colour_bars, galleries


def _pixels(picture: Picture) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    data = base64.b64decode(picture.uri.split(",")[1])
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def test_groups_and_verdicts(evaluation: Evaluation) -> None:
    misses, alarms, hits = galleries(evaluation)
    assert [group.title for group in (misses, alarms, hits)] == [
        "Worst misses",
        "Worst false alarms",
        "Clear hits",
    ]
    assert [(entry.name, entry.verdict, entry.badge) for entry in misses.entries] == [
        ("test/scratch/0.png", "passes: missed", "wrong"),
        ("test/dent/3.png", "passes: missed", "wrong"),
    ]
    assert [(entry.defect, entry.verdict) for entry in alarms.entries] == [
        ("good", "rejected: false alarm"),
    ]
    assert {entry.badge for entry in hits.entries} == {"right"}
    assert misses.lead.startswith("2 defective images with the lowest scores, lowest first.")
    assert misses.lead.endswith("At the threshold, all 2 would pass.")
    assert alarms.lead.endswith("At the threshold, it would be rejected.")
    assert hits.lead.endswith("At the threshold, all 2 would be rejected.")


def test_a_review_threshold_divides_what_is_not_rejected(evaluation: Evaluation) -> None:
    misses, alarms, hits = galleries(replace(evaluation, review_threshold=0.3))
    assert [group.title for group in (misses, alarms, hits)] == [
        "Defective images not rejected",
        "Good images that do not pass",
        "Clear hits",
    ]
    assert [(entry.verdict, entry.badge) for entry in misses.entries] == [
        ("passes: missed", "wrong"),
        ("goes to review", "review"),
    ]
    assert [(entry.verdict, entry.badge) for entry in alarms.entries] == [
        ("rejected: false alarm", "wrong"),
        ("goes to review", "review"),
    ]
    assert misses.lead.endswith("1 of them would pass and 1 of them would go to review.")
    assert alarms.lead.endswith("1 of them would go to review and 1 of them would be rejected.")


def test_leads_speak_of_all_and_none(evaluation: Evaluation) -> None:
    strict = galleries(replace(evaluation, threshold=0.01))
    assert strict[0].title == "Nearest to a miss"
    assert strict[0].lead.endswith("all 3 would be rejected.")
    assert strict[1].lead.endswith("all 2 would be rejected.")
    lax = galleries(replace(evaluation, threshold=0.99))
    assert [group.title for group in lax] == [
        "Worst misses",
        "Nearest to a false alarm",
        "Nearest to a hit",
    ]
    assert all(group.lead.endswith("all 2 would pass.") for group in lax[1:])
    one = galleries(replace(evaluation, threshold=0.99, misses=evaluation.misses[:1]))
    assert one[0].lead.endswith("it would pass.")
    assert one[0].lead.startswith("1 defective image with the lowest score, lowest first.")


def test_without_a_threshold_there_is_no_verdict(evaluation: Evaluation) -> None:
    groups = galleries(replace(evaluation, threshold=None, hits=()))
    assert [group.key for group in groups] == ["miss", "alarm"]
    assert {entry.verdict for group in groups for entry in group.entries} == {""}


def test_the_four_pictures_show_what_they_say(evaluation: Evaluation) -> None:
    example = evaluation.false_alarms[0]
    pictures = galleries(evaluation)[1].entries[0].pictures
    expected = (
        ("image", example.image),
        ("reconstruction", example.reconstruction),
        ("anomaly map", heat(example.anomaly_map, 0.5)),
        ("map over image", overlay(example.image, example.anomaly_map, 0.5)),
    )
    for picture, (name, pixels) in zip(pictures, expected, strict=True):
        assert picture.name == name
        assert (picture.width, picture.height) == (32, 24)
        # WebP halves the resolution of colour, which random pixels feel; grey levels come closer.
        difference = np.abs(_pixels(picture).mean(axis=2) - pixels.mean(axis=2)).mean()
        assert difference < 20


def test_the_true_defect_is_outlined(evaluation: Evaluation) -> None:
    miss = evaluation.misses[0]
    assert miss.mask is not None
    grey = replace(
        miss,
        image=np.full_like(miss.image, 128),
        anomaly_map=np.zeros_like(miss.anomaly_map),
    )
    unmasked = replace(grey, mask=None)
    empty = replace(grey, mask=np.zeros_like(miss.mask))
    entries = galleries(replace(evaluation, misses=(grey, unmasked, empty)))[0].entries
    outlined, plain, nothing = (entry.pictures[3] for entry in entries)
    assert outlined.name == "map, true defect outlined"
    assert plain.name == nothing.name == "map over image"
    grey_levels = _pixels(outlined).mean(axis=2)
    assert grey_levels[7, 11:19].mean() > 190, "a white line round the defect"
    assert grey_levels[6, 11:19].mean() < 90, "a dark rim outside it"
    assert np.abs(grey_levels[20:, :4] - 128).max() < 12
    assert (np.abs(_pixels(plain).astype(int) - 128) < 4).all()


def test_large_pictures_shrink_and_keep_their_shape(
    evaluation: Evaluation, make_example: Callable[..., Example]
) -> None:
    scored = ScoredImage(Path("a.png"), "dent", 1, 0.3)
    tall = make_example(scored, (1240, 500))
    picture = galleries(replace(evaluation, misses=(tall,)))[0].entries[0].pictures[0]
    assert (picture.width, picture.height) == (103, 256)
    assert _pixels(picture).shape == (256, 103, 3)


def test_colour_bars_run_from_0_to_1() -> None:
    bars = dict(colour_bars())
    levels = np.linspace(0, 1, 256, dtype=np.float32)[None]
    picture = Picture("", "", bars["anomaly map"], 256, 2)
    np.testing.assert_array_equal(_pixels(picture)[:1], heat(levels))


def test_colours_are_anchored_at_the_threshold(evaluation: Evaluation) -> None:
    levels = np.linspace(0, 1, 256, dtype=np.float32)[None]
    bar = Picture("", "", dict(colour_bars(0.2))["anomaly map"], 256, 2)
    np.testing.assert_array_equal(_pixels(bar)[:1], heat(levels, 0.2))
    half = replace(
        evaluation.misses[0],
        image=np.full_like(evaluation.misses[0].image, 128),
        anomaly_map=np.full_like(evaluation.misses[0].anomaly_map, 0.25),
        mask=None,
    )
    pictures = {
        threshold: galleries(replace(evaluation, threshold=threshold, misses=(half,)))[0]
        for threshold in (0.5, 0.25)
    }
    low, high = (_pixels(group.entries[0].pictures[3]) for group in pictures.values())
    assert (np.abs(low.astype(int) - 128) < 4).all(), "half the threshold: the image alone"
    assert (high[..., 0] > 150).all(), "at the threshold: orange"
