"""What a model says, limited to the region of interest; the same for every runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draem.imaging.resize import resize_image
from draem.inspection.runtime import RuntimeOutput
from draem.inspection.scoring import anomaly_score


def limit_output(
    output: RuntimeOutput, inside: NDArray[np.bool_] | None, smoothing: int
) -> RuntimeOutput:
    """The output with maps of 0 outside the region of interest, and the scores of such maps.

    No score rises by it.

    Args:
        output: As a runtime gives it.
        inside: (height, width) bool, of the maps' size; None for everything.
        smoothing: Side of the score's mean filter at 256 pixels.
    """
    if inside is None:
        return output
    maps = limit_map(output.anomaly_maps, inside)
    scores = np.array([anomaly_score(plane, smoothing) for plane in maps], np.float32)
    return output._replace(anomaly_maps=maps, anomaly_scores=scores)


def limit_map(maps: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Maps, (..., height, width), with 0 outside the region of interest."""
    return np.where(inside, maps, np.float32(0))


def roi_at(inside: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The region of interest in an image of another size.

    Args:
        inside: (height, width) bool.
        size: Height and width of the image in pixels.
    """
    return resize_image(inside * np.uint8(255), size, "bilinear") >= 128
