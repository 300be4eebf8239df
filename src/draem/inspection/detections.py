"""Regions as detections of the library supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from draem.errors import missing_dependency
from draem.inspection.regions import Region, region_mask

if TYPE_CHECKING:
    from supervision import Detections


def detections(regions: Sequence[Region], size: tuple[int, int]) -> Detections:
    """See `Inspection.to_supervision`.

    Args:
        regions: In pixels of the image.
        size: Height and width of the image.
    """
    try:
        import supervision
    except ImportError as error:
        raise missing_dependency(error, "`to_supervision`", "supervision") from error
    boxes = np.array([region.box for region in regions], np.float64).reshape(-1, 4)
    masks = [region_mask(region, size) for region in regions]
    return supervision.Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        mask=np.stack(masks) if masks else np.zeros((0, *size), np.bool_),
        confidence=np.array([region.peak for region in regions], np.float64),
        class_id=np.zeros(len(regions), np.int64),
        data={"class_name": np.full(len(regions), "anomaly")},
    )
