"""The strategy for whole images: each is resized to the network's input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from draem.config import ResolvedNetworkConfig
from draem.imaging.resize import resize_image, resize_map
from draem.imaging.roi import limit_map, roi_at
from draem.inspection.regions import Region, find_regions
from draem.inspection.runtime import Runtime, RuntimeOutput, run_checked
from draem.inspection.scoring import anomaly_score, mean_filter, network_filter_side
from draem.inspection.strategy import ImageOutput

_BATCH = 16
_BATCH_PIXELS = 2**18
"""Larger batches save no time: the arithmetic of larger images keeps a CPU busy by itself."""


class WholeImageStrategy:
    """Looks at each image as a whole, at the network's size.

    Args:
        runtime: Runs the model.
        network: Input size, resizing and filter of the model.
        region_of_interest: (height, width) bool of the network's size; None for everything.
    """

    def __init__(
        self,
        runtime: Runtime,
        network: ResolvedNetworkConfig,
        region_of_interest: NDArray[np.bool_] | None,
    ) -> None:
        self._runtime = runtime
        self._network = network
        self._side = network_filter_side(network)
        self.region_of_interest = region_of_interest
        height, width = network.image_size
        self.batch_size = min(_BATCH, max(1, _BATCH_PIXELS // (height * width)))

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image at the network's size."""
        return resize_image(image, self._network.image_size, self._network.interpolation)

    def run(self, prepared: Sequence[NDArray[np.uint8]]) -> Iterator[ImageOutput]:
        """Run the model on batches of prepared images."""
        for start in range(0, len(prepared), self.batch_size):
            output = self.run_batch(np.stack(prepared[start : start + self.batch_size]))
            for row, anomaly_map in enumerate(output.anomaly_maps):
                score = float(output.anomaly_scores[row])
                yield ImageOutput(anomaly_map, score, output.reconstruction(row))

    def run_batch(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run one batch; maps and scores are limited to the region of interest."""
        output = run_checked(self._runtime, images)
        if self.region_of_interest is None:
            return output
        maps = limit_map(output.anomaly_maps, self.region_of_interest)
        scores = np.array([anomaly_score(plane, self._side) for plane in maps], np.float32)
        return output._replace(anomaly_maps=maps, anomaly_scores=scores)

    def regions(
        self,
        output: ImageOutput,
        level: float,
        image_size: tuple[int, int],
        pixel_threshold: float | None,
    ) -> tuple[Region, ...]:
        """The regions of a map that reaches the level."""
        if output.anomaly_score < level:
            return ()
        smoothed = mean_filter(output.anomaly_map, self._side)
        # A runtime's score differs from NumPy's in the last digits, which must not leave an
        # anomalous image without a region or a normal one with some.
        reached = min(level, float(smoothed.max()))
        return find_regions(
            output.anomaly_map,
            reached,
            image_size,
            smoothed,
            self._side,
            pixel_threshold=pixel_threshold,
        )

    def map_at(
        self, anomaly_map: NDArray[np.float32], image_size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """The map resized to the image."""
        resized = resize_map(anomaly_map, image_size)
        if self.region_of_interest is None:
            return resized
        # Resizing spreads the outermost pixels beyond the border.
        return limit_map(resized, roi_at(self.region_of_interest, image_size))
