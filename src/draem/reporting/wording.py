"""Numbers and names as people read them: percentages, scores, captions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from draem.evaluation.result import MaskRule

UNDEFINED = "–"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric's key, its name and what it means.

    Attributes:
        key: Its name in `Evaluation.metrics`.
        name: Its name in the report.
        caption: What it says, in one short sentence.
        meaning: How it is computed, in one or two sentences.
    """

    key: str
    name: str
    caption: str
    meaning: str


METRICS = (
    Metric(
        "image_auroc",
        "Image AUROC",
        "How often a defective image scores higher than a good one. Guessing gives 50%.",
        "Area under the image ROC curve: the chance that a defective image, drawn at random, "
        "scores higher than a good one. It does not depend on the threshold.",
    ),
    Metric(
        "image_ap",
        "Image AP",
        "Precision averaged over recall, image by image.",
        "Average precision over images: at every share of defective images found, how many of "
        "the rejected images are defective. It depends on the share of defective test images.",
    ),
    Metric(
        "image_f1_max",
        "Image F1-max",
        "The best balance of precision and recall that any threshold gives.",
        "The highest F1 over images that any threshold reaches. That threshold is chosen with the "
        "test images in view, so the figure is an upper limit.",
    ),
    Metric(
        "pixel_auroc",
        "Pixel AUROC",
        "How often a defect pixel scores higher than a good one. Guessing gives 50%.",
        "Area under the pixel ROC curve. Good pixels outnumber defect pixels by far, so it is "
        "high even where maps are blurred.",
    ),
    Metric(
        "pixel_ap",
        "Pixel AP",
        "How cleanly defects are outlined. The strictest of these four figures.",
        "Average precision over pixels: at every share of defect pixels found, how many of the "
        "marked pixels are defective. Guessing gives the share of defect pixels, often near 1%.",
    ),
    Metric(
        "pixel_f1_max",
        "Pixel F1-max",
        "The best overlap of marked and true defect pixels that any threshold gives.",
        "The highest F1 over pixels that any threshold reaches: an upper limit, as for images.",
    ),
    Metric(
        "aupro_0.30",
        "AUPRO 0.30",
        "How much of each defect is marked. Small defects count as much as large ones.",
        "Area under the per-region overlap curve up to 30% false positive pixels, divided by "
        "0.30. Every connected defect region has the same weight, regardless of its size.",
    ),
    Metric(
        "aupro_0.05",
        "AUPRO 0.05",
        "The same with at most 5% of the good pixels marked falsely.",
        "The same area up to 5% false positive pixels, divided by 0.05: stricter, and closer to "
        "what a line can bear.",
    ),
)

HEADLINE = tuple(
    metric
    for metric in METRICS
    if metric.key in {"image_auroc", "pixel_auroc", "pixel_ap", "aupro_0.30"}
)

MASK_RULES: Mapping[MaskRule, str] = {
    "half": "After resizing, a mask pixel counts as defective when its grey level is at least "
    "one half.",
    "upstream": "After resizing, a mask pixel counts as defective only when its grey level is "
    "exactly full, as in the published DRAEM code. Use it to compare with published figures; "
    "regions come out slightly smaller than with the rule ‘half’.",
}


def percent(share: float | None) -> str:
    """A share in [0, 1] as percent with one decimal; no percent sign, a dash where undefined.

    Only a perfect share reads 100.0 and only an empty one 0.0.

    Examples:
        >>> percent(0.9388), percent(0.99999), percent(0.00001), percent(float("nan"))
        ('93.9', '>99.9', '<0.1', '–')
    """
    if share is None or not math.isfinite(share):
        return UNDEFINED
    if 0 < share < 0.0005:
        return "<0.1"
    if 0.9995 <= share < 1:
        return ">99.9"
    return f"{100 * share:.1f}"


def percent_sign(share: float | None) -> str:
    """As `percent`, with its sign if there is a figure.

    Examples:
        >>> percent_sign(0.5), percent_sign(None)
        ('50.0%', '–')
    """
    text = percent(share)
    return text if text == UNDEFINED else f"{text}%"


def score_text(score: float) -> str:
    """An anomaly score with as many digits as tell it from 0 and from 1.

    Examples:
        >>> score_text(0.41234), score_text(1.26e-6), score_text(0.99998), score_text(0.0)
        ('0.4123', '1.3 × 10⁻⁶', '0.999980', '0')
    """
    if not math.isfinite(score):
        return UNDEFINED
    if score in (0.0, 1.0):
        return f"{score:.0f}"
    if abs(score) < 0.001:
        mantissa, exponent = f"{score:.1e}".split("e")
        return f"{mantissa} × {power_of_ten(int(exponent))}"
    distance = abs(1 - score)
    if distance < 0.001:
        decimals = min(9, math.ceil(-math.log10(distance)) + 1)
        return f"{score:.{decimals}f}"
    return f"{score:.4f}"


def power_of_ten(exponent: int) -> str:
    """A power of ten in print.

    Examples:
        >>> power_of_ten(-6)
        '10⁻⁶'
    """
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def count_text(count: int, noun: str) -> str:
    """A count with its noun.

    Examples:
        >>> count_text(1, "good image"), count_text(1200, "good image")
        ('1 good image', '1,200 good images')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(text: str) -> str:
    r"""Text that can be written as UTF-8: bytes of a file name that are not, become `?`.

    Examples:
        >>> printable("caf\udce9.png")
        'caf?.png'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def image_name(path: Path, folder: Path) -> str:
    """An image's path below the data folder, with `/`; its whole path where it is elsewhere.

    Examples:
        >>> image_name(Path("screw/test/good/000.png"), Path("screw"))
        'test/good/000.png'
    """
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    return printable(inside.as_posix())


def size_text(size: object) -> str:
    """An image size in pixels, given as one side or as (height, width).

    Examples:
        >>> size_text(256), size_text((256, 320)), size_text(None)
        ('256 × 256 px', '256 × 320 px (height × width)', '–')
    """
    if isinstance(size, int):
        return f"{size} × {size} px"
    if isinstance(size, (tuple, list)) and len(size) == 2:
        if size[0] == size[1]:
            return size_text(size[0])
        return f"{size[0]} × {size[1]} px (height × width)"
    return UNDEFINED if size is None else printable(str(size))
