"""Evaluate a model on a labelled test set, image by image, in constant memory."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draem.config import told_size
from draem.datasets.layouts.category import Category
from draem.datasets.layouts.registry import as_category
from draem.datasets.samples import NORMAL, Sample
from draem.errors import DatasetError, ImageError, InputError, counted, list_problems
from draem.evaluation.curves import all_curves
from draem.evaluation.histograms import PixelHistograms
from draem.evaluation.metrics import all_metrics, binarize_mask
from draem.evaluation.outcome import ScoredImage
from draem.evaluation.result import Evaluation, Example, MaskRule
from draem.imaging.decode import decode_image
from draem.imaging.mask import read_masks
from draem.imaging.resize import resize_image, shrink_map
from draem.inspection.inspector import Inspector
from draem.inspection.loading import load

_EXAMPLES = 8
_SHOWN_PIXELS = 2**20


def evaluate(
    model: Inspector | str | Path,
    data: str | Path | Category,
    *,
    mask_rule: MaskRule = "half",
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on the test set of a category.

    Pixel metrics are taken at the network's size, as in the published evaluation: masks are
    resized bilinearly and then made true or false by the mask rule. Those of a tiled model are
    taken at the images' own size. Pixels outside the model's region of interest count too, with a
    map of 0: a defect there is missed.

    Args:
        model: A loaded model or the path of a model file.
        data: A category in any layout that `open_dataset` knows, by its path or as it gives it.
        mask_rule: `half` counts a mask pixel of 128 and more of 255 as anomalous; `upstream` only
            255, as the published evaluation does.
        device: Where to run, when `model` is a path.
        threads: How many CPU threads it may use, when `model` is a path; see `load`.
        progress: Called with (images done, images in all).

    Raises:
        DatasetError: The folder is not in the layout, or some of its images cannot be read; every
            problem is listed.
        ModelFileError: The model file is not one of draem's.
    """
    if mask_rule not in ("half", "upstream"):
        raise InputError(
            "this mask rule is unknown", expected="half or upstream", found=str(mask_rule)
        )
    category = as_category(data)
    samples = category.test_samples(log=True)
    inspector = (
        model if isinstance(model, Inspector) else load(model, device=device, threads=threads)
    )
    tally = _Tally()
    problems: list[ImageError] = []
    for done, sample in enumerate(samples, 1):
        try:
            tally.add(_examine(inspector, sample, mask_rule))
        except ImageError as error:
            problems.append(error)
        if progress:
            progress(done, len(samples))
    if problems:
        raise DatasetError(
            f"{counted(len(problems), 'image')} of the test set cannot be used:\n"
            f"{list_problems(problems)}\n",
            path=category.root,
            hint="Repair or remove them, so that the figures speak of the whole test set",
        )
    return _summary(inspector, category.root, mask_rule, tally)


@dataclass(slots=True)
class _Tally:
    """What grows while the test set is gone through; its memory does not grow with the pixels."""

    images: list[ScoredImage] = field(default_factory=list)
    histograms: dict[str, PixelHistograms] = field(default_factory=dict)
    misses: list[tuple[float, int, Example]] = field(default_factory=list)
    false_alarms: list[tuple[float, int, Example]] = field(default_factory=list)
    hits: list[tuple[float, int, Example]] = field(default_factory=list)

    def add(self, example: Example) -> None:
        scored = example.scored
        self.images.append(scored)
        # Without a mask nothing is known of an anomalous image's pixels.
        if example.mask is not None or not scored.label:
            self.histograms.setdefault(scored.defect, PixelHistograms.empty()).update(
                example.anomaly_map, example.mask
            )
        score = scored.anomaly_score
        example = _to_show(example)
        if scored.label:
            self._keep(self.misses, -score, example)
            self._keep(self.hits, score, example)
        else:
            self._keep(self.false_alarms, score, example)

    def _keep(self, heap: list[tuple[float, int, Example]], key: float, example: Example) -> None:
        heapq.heappush(heap, (key, -len(self.images), example))
        if len(heap) > _EXAMPLES:
            heapq.heappop(heap)

    def pixels(self, *defects: str) -> PixelHistograms:
        total = PixelHistograms.empty()
        for defect in defects:
            if defect in self.histograms:
                total = total + self.histograms[defect]
        return total

    def scores(self, *defects: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        kept = [image for image in self.images if image.defect in defects]
        return (
            np.array([image.anomaly_score for image in kept], np.float64),
            np.array([image.label for image in kept], np.int64),
        )


def _examine(inspector: Inspector, sample: Sample, mask_rule: MaskRule) -> Example:
    image = inspector.prepare(decode_image(sample.image))
    size = image.shape[0], image.shape[1]
    mask = _true_mask(sample, size, mask_rule) if sample.masks else None
    (output,) = inspector.outputs([image])
    return Example(
        scored=ScoredImage(sample.image, sample.defect, sample.label, output.anomaly_score),
        image=image,
        reconstruction=output.reconstruction,
        anomaly_map=output.anomaly_map,
        mask=mask,
    )


def _to_show(example: Example) -> Example:
    """The example as it is kept: no picture larger than reports show."""
    height, width = example.image.shape[:2]
    factor = math.sqrt(_SHOWN_PIXELS / (height * width))
    if factor >= 1:
        return example
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return replace(
        example,
        image=resize_image(example.image, size, "area"),
        reconstruction=None
        if example.reconstruction is None
        else resize_image(example.reconstruction, size, "area"),
        anomaly_map=shrink_map(example.anomaly_map, size),
        mask=None if example.mask is None else shrink_map(example.mask, size),
    )


def _true_mask(sample: Sample, size: tuple[int, int], mask_rule: MaskRule) -> NDArray[np.bool_]:
    grey = read_masks(sample.masks, numbered=sample.numbered)
    if not binarize_mask(grey, "half").any():
        raise ImageError(
            "the mask marks no defect pixel",
            path=sample.masks[0],
            expected="255 where the defect is",
            found=f"no level above {grey.max()}",
        )
    return binarize_mask(resize_image(grey, size, "bilinear"), mask_rule)


def _summary(inspector: Inspector, data: Path, rule: MaskRule, tally: _Tally) -> Evaluation:
    counted = Counter(image.defect for image in tally.images)
    defects = sorted(defect for defect in counted if defect != NORMAL)
    everything = tally.pixels(NORMAL, *defects)
    scores, labels = tally.scores(NORMAL, *defects)
    threshold, calibration = inspector.threshold, inspector.card.calibration
    return Evaluation(
        model=_facts(inspector),
        data=data,
        mask_rule=rule,
        metrics=all_metrics(scores, labels, everything),
        metrics_by_defect={
            defect: all_metrics(*tally.scores(NORMAL, defect), tally.pixels(NORMAL, defect))
            for defect in defects
        },
        counts={
            **{defect: counted[defect] for defect in defects},
            NORMAL: counted[NORMAL],
            "anomalous": len(tally.images) - counted[NORMAL],
        },
        images=tuple(tally.images),
        threshold=threshold,
        curves=all_curves(scores, labels, everything),
        misses=_ordered(tally.misses),
        false_alarms=_ordered(tally.false_alarms),
        hits=_ordered(tally.hits),
        review_threshold=calibration.review_threshold if calibration else None,
    )


def _facts(inspector: Inspector) -> dict[str, object]:
    card = inspector.card
    network = card.network
    facts = card.model_dump(include={"fingerprint", "preset"})
    facts |= network.model_dump(include={"image_size", "interpolation"})
    if network.tile:
        facts["tile_overlap"] = network.overlap
    if network.architecture == "pretrained":
        facts["widths"] = told_size(network)
    else:
        facts["widths"] = f"{network.reconstructive_width}/{network.discriminative_width}"
    if inspector.region_of_interest is not None:
        facts["region_of_interest_share"] = float(inspector.region_of_interest.mean())
    if card.calibration:
        facts["calibration_images"] = card.calibration.images
        facts["promised_false_reject_rate"] = card.calibration.false_reject_rate
        more = {
            "calibration_groups": card.calibration.groups,
            "cross_fitted": card.calibration.cross_fitted or None,
            "promised_review_rate": card.calibration.review_rate,
            "pixel_threshold": card.calibration.pixel_threshold,
            "pixel_false_positive_rate": card.calibration.pixel_false_positive_rate,
        }
        facts |= {name: value for name, value in more.items() if value is not None}
    if card.training_set:
        facts["training_images"] = card.training_set.images
        facts["training_fingerprint"] = card.training_set.fingerprint
    return facts


def _ordered(heap: list[tuple[float, int, Example]]) -> tuple[Example, ...]:
    return tuple(example for *_, example in sorted(heap, key=lambda entry: entry[:2], reverse=True))
