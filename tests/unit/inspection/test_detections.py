from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from draem.errors import MissingDependencyError
from draem.inspection.detections import detections
from draem.inspection.inspector import Inspection
from draem.inspection.regions import region_mask
from tests.reference.polygon import draw_polygon
from tests.support import regions_of


@pytest.mark.parametrize("seed", range(20))
def test_a_mask_has_the_pixels_whose_centres_the_contour_encloses(seed: int) -> None:
    plane = np.random.default_rng(seed).random((40, 50)).astype(np.float32) ** 2
    size = 90, 70  # not the map's own, so that corners lie within pixels
    regions = regions_of(plane, 0.5, size)
    assert regions
    for region in regions:
        assert np.array_equal(region_mask(region, size), draw_polygon(region.contour, size))


def test_a_region_is_a_detection(red_inspector: Any) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:30, 20:40] = image[50:60, 5:9] = (250, 0, 0)
    found: Inspection = red_inspector(threshold=0.3, image_size=(64, 64)).inspect(image)
    boxes = found.to_supervision()
    assert len(boxes) == len(found.regions) > 0
    for number, region in enumerate(found.regions):
        x, y, width, height = region.box
        assert boxes.xyxy[number].tolist() == [x, y, x + width, y + height]
        assert boxes.mask[number].sum() == region.area
        assert boxes.confidence[number] == pytest.approx(region.peak)
    assert set(boxes.data["class_name"]) == {"anomaly"}
    assert set(boxes.class_id) == {0}


def test_a_good_part_has_no_detections() -> None:
    found = detections((), (6, 8))
    assert len(found) == 0
    assert found.mask.shape == (0, 6, 8)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"needs supervision.*'draem\[supervision\]'"):
        detections((), (6, 8))
