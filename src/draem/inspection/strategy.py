"""What an Inspector asks of the two ways to look at an image: whole, or by tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from draem.inspection.regions import Region
from draem.inspection.runtime import RuntimeOutput


class ImageOutput(NamedTuple):
    """What a model says of one image.

    Attributes:
        anomaly_map: (height, width) float32 in [0, 1], at the size that the image was looked at.
        anomaly_score: In [0, 1].
        reconstruction: (height, width, 3) uint8 RGB; None if the model was exported without it.
    """

    anomaly_map: NDArray[np.float32]
    anomaly_score: float
    reconstruction: NDArray[np.uint8] | None


class Strategy(Protocol):
    """Prepares images, runs the model and gives its output in image coordinates.

    Attributes:
        region_of_interest: (height, width) bool, True where to inspect; None for everything. The
            maps are 0 outside it.
        batch_size: Images that are run together.
    """

    region_of_interest: NDArray[np.bool_] | None
    batch_size: int

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a (height, width, 3) uint8 RGB image to the size that it is looked at."""
        ...

    def run(self, prepared: Sequence[NDArray[np.uint8]]) -> Iterator[ImageOutput]:
        """Run the model on prepared images, in order.

        Raises:
            InputError: The model gives a score that is not finite.
        """
        ...

    def run_batch(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run one batch, (batch, height, width, 3) uint8 RGB of the network's size."""
        ...

    def regions(
        self,
        output: ImageOutput,
        level: float,
        image_size: tuple[int, int],
        pixel_threshold: float | None,
    ) -> tuple[Region, ...]:
        """The regions in pixels of the image; some if and only if the score reaches the level."""
        ...

    def map_at(
        self, anomaly_map: NDArray[np.float32], image_size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """The map at the image's size."""
        ...
