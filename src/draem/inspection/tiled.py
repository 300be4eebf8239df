"""The strategy for tiles: an image of any size through a network that sees a tile at a time.

Besides the image and the result, memory holds one row of tiles and one strip of the map, however
large the image is; only regions that stretch far need more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.config import ResolvedNetworkConfig
from draem.imaging.roi import roi_at
from draem.imaging.tiles import TileGrid, blend_shares, cut_tiles, mix_in, plan_tiles
from draem.inspection.regions import Region, find_regions, translated
from draem.inspection.runtime import Runtime, RuntimeOutput, run_checked
from draem.inspection.scoring import mean_filter, network_filter_side
from draem.inspection.strategy import ImageOutput

_BATCH = 4
_CELL = 16
_STRIP = 16 * _CELL
"""Rows that are smoothed at once."""


class TiledStrategy:
    """Looks at images at their own resolution, in overlapping tiles.

    Args:
        runtime: Runs the model.
        network: Tile size, overlap and filter of the model.
        region_of_interest: (height, width) bool of any size; None for everything.
    """

    def __init__(
        self,
        runtime: Runtime,
        network: ResolvedNetworkConfig,
        region_of_interest: NDArray[np.bool_] | None,
    ) -> None:
        self._runtime = runtime
        self._tile_size, self._overlap = network.image_size, network.overlap or 0
        self._side = network_filter_side(network)
        self.region_of_interest = region_of_interest
        self.batch_size = 1

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image itself."""
        return image

    def run(self, prepared: Sequence[NDArray[np.uint8]]) -> Iterator[ImageOutput]:
        """Run the model over each image, a few tiles at a time, and blend the maps."""
        return map(self._run_image, prepared)

    def run_batch(self, images: NDArray[np.uint8]) -> RuntimeOutput:
        """Run a batch of tiles, without region of interest."""
        return run_checked(self._runtime, images)

    def _run_image(self, image: NDArray[np.uint8]) -> ImageOutput:
        size = image.shape[0], image.shape[1]
        grid = plan_tiles(size, self._tile_size, self._overlap)
        blended = _Canvas(grid, self._overlap, (), np.float32)
        pictures: _Canvas | None = None
        outputs = _one_by_one(self.run_batch, cut_tiles(image, grid))
        for number, (tile_map, tile_picture) in enumerate(outputs):
            blended.add(number, tile_map)
            if tile_picture is not None:
                pictures = pictures or _Canvas(grid, self._overlap, (3,), np.uint8)
                pictures.add(number, tile_picture)
        anomaly_map = blended.finished()
        if self.region_of_interest is not None:
            anomaly_map[~roi_at(self.region_of_interest, size)] = 0
        return ImageOutput(
            anomaly_map,
            tiled_score(anomaly_map, self._side),
            None if pictures is None else pictures.finished(),
        )

    def regions(
        self,
        output: ImageOutput,
        level: float,
        image_size: tuple[int, int],  # noqa: ARG002 - the map has this size
        pixel_threshold: float | None,
    ) -> tuple[Region, ...]:
        """The regions of a map that reaches the level."""
        return tiled_regions(
            output.anomaly_map, output.anomaly_score, level, self._side, pixel_threshold
        )

    def map_at(
        self,
        anomaly_map: NDArray[np.float32],
        image_size: tuple[int, int],  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """The map, which has the image's size already."""
        return anomaly_map


def tiled_score(anomaly_map: NDArray[np.float32], side: int) -> float:
    """The image score: the maximum of the mean-filtered map, smoothed a strip at a time.

    Args:
        anomaly_map: (height, width) float32 in [0, 1].
        side: Of the mean filter, in pixels.
    """
    return max(float(smoothed.max()) for _, smoothed in _smoothed_strips(anomaly_map, side))


def tiled_regions(
    anomaly_map: NDArray[np.float32],
    score: float,
    level: float,
    side: int,
    pixel_threshold: float | None = None,
) -> tuple[Region, ...]:
    """The regions of a large map, each found in a part of it that holds all that decides on it.

    Args:
        anomaly_map: (height, width) float32 in [0, 1], at the image's own size.
        score: Its score.
        level: What the score has to reach for an image to have regions.
        side: Of the mean filter, in pixels.
        pixel_threshold: What marks pixels, where that is not the level.

    Returns:
        What `find_regions` finds on the whole map, highest peak first.
    """
    if score < level:
        return ()
    # If no pixel reaches the pixel threshold, those that reach the level are marked.
    marking = level if pixel_threshold is None else min(level, pixel_threshold)
    parts = _alarming_parts(anomaly_map, level, marking, side)
    # Smoothed by itself, a part can differ in the last digit, which must not lose the regions.
    smoothed = [mean_filter(anomaly_map[part], side) for part in parts]
    reached = min(level, max((float(plane.max()) for plane in smoothed), default=0))
    regions = []
    for part, plane in zip(parts, smoothed, strict=True):
        within = anomaly_map[part]
        size = within.shape[0], within.shape[1]
        found = find_regions(within, reached, size, plane, side, pixel_threshold=pixel_threshold)
        regions += [translated(region, part[1].start, part[0].start) for region in found]
    return tuple(sorted(regions, key=lambda region: region.peak, reverse=True))


class _Canvas:
    """What is made of tiles, blended one row of tiles after the other.

    Args:
        grid: Where the tiles lie.
        overlap: Of neighbours, in pixels.
        channels: What follows height and width in the shape.
        kind: float32 or uint8.
    """

    def __init__(
        self, grid: TileGrid, overlap: int, channels: tuple[int, ...], kind: type[np.generic]
    ) -> None:
        height, width = map(max, zip(grid.image_size, grid.tile_size, strict=True))
        along = (1,) * len(channels)
        self._grid = grid
        self._whole = np.zeros((height, width, *channels), kind)
        self._row = np.zeros((grid.tile_size[0], width, *channels), np.float32)
        self._down, self._across = (
            [share.reshape(-1, *others) for share in blend_shares(starts, side, overlap)]
            for starts, side, others in (
                (grid.tops, grid.tile_size[0], (1, *along)),
                (grid.lefts, grid.tile_size[1], along),
            )
        )

    def add(self, number: int, piece: NDArray[Any]) -> None:
        """Blend in the next tile, counted from 0 in reading order."""
        grid, (height, width) = self._grid, self._grid.tile_size
        row, column = divmod(number, len(grid.lefts))
        if column == 0:
            self._row[...] = 0
        top, left = grid.tops[row], grid.lefts[column]
        mix_in(self._row[:, left : left + width], piece, self._across[column])
        if column == len(grid.lefts) - 1:
            mix_in(self._whole[top : top + height], self._row, self._down[row])

    def finished(self) -> NDArray[Any]:
        """The whole, at the image's size."""
        height, width = self._grid.image_size
        return np.ascontiguousarray(self._whole[:height, :width])


def _one_by_one(
    run: Callable[[NDArray[np.uint8]], RuntimeOutput], tiles: Iterator[NDArray[np.uint8]]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8] | None]]:
    """The map and the reconstruction of each tile, run in small batches."""
    while batch := list(islice(tiles, _BATCH)):
        output = run(np.stack(batch))
        for row in range(len(batch)):
            yield output.anomaly_maps[row], output.reconstruction(row)


def _smoothed_strips(
    anomaly_map: NDArray[np.float32], side: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The mean-filtered map, a strip of rows at a time."""
    height, half = len(anomaly_map), side // 2
    for top in range(0, height, _STRIP):
        bottom, above = min(top + _STRIP, height), min(top, half)
        smoothed = mean_filter(anomaly_map[top - above : bottom + half], side)
        yield slice(top, bottom), smoothed[above : above + bottom - top]


def _alarming_parts(
    anomaly_map: NDArray[np.float32], level: float, marking: float, side: int
) -> list[tuple[slice, slice]]:
    """Rectangles that do not touch and hold, whole and with its surroundings, every region.

    They are made of cells, so that the work takes no plane of labels as large as the map. Marked
    pixels that are connected are in cells that are connected.
    """
    height, width = anomaly_map.shape
    cells = -(-height // _CELL), -(-width // _CELL)
    marked, alarming = np.zeros(cells, np.uint8), np.zeros(cells, np.uint8)
    for rows, smoothed in _smoothed_strips(anomaly_map, side):
        place = slice(rows.start // _CELL, -(-rows.stop // _CELL))
        alarming[place] = _in_cells(smoothed, level)
        marked[place] = _in_cells(anomaly_map[rows], marking)
    half = side // 2
    reach = -(-half // _CELL)
    near = cv2.dilate(alarming, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    wanted = np.unique(labels[(near > 0) & (marked > 0)])
    # The filter looks half its side around a place that lies half its side from the region.
    boxes = _apart([stats[label] for label in wanted], cells, -(-2 * half // _CELL))
    return [
        (slice(top * _CELL, (top + rows) * _CELL), slice(left * _CELL, (left + columns) * _CELL))
        for left, top, columns, rows in boxes
    ]


def _in_cells(plane: NDArray[np.float32], level: float) -> NDArray[np.bool_]:
    """Which cells hold a value that reaches the level, compared in float64 as the score is."""
    reached = plane.astype(np.float64) >= level
    beyond = [(0, -length % _CELL) for length in plane.shape]
    reached = np.pad(reached, beyond)
    rows, columns = (length // _CELL for length in reached.shape)
    return np.asarray(reached.reshape(rows, _CELL, columns, _CELL).any(axis=(1, 3)))


def _apart(
    boxes: list[NDArray[np.int32]], cells: tuple[int, int], margin: int
) -> list[tuple[int, int, int, int]]:
    """Boxes grown by a margin, those that then touch replaced by one around them all."""
    while True:
        canvas = np.zeros(cells, np.uint8)
        for left, top, width, height in (box[:4] for box in boxes):
            rows = slice(max(top - margin, 0), top + height + margin)
            canvas[rows, max(left - margin, 0) : left + width + margin] = 1
        stats = cv2.connectedComponentsWithStats(canvas, connectivity=8)[2][1:]
        if len(stats) == len(boxes):
            return [(int(x), int(y), int(w), int(h)) for x, y, w, h, _ in stats]
        boxes, margin = list(stats), 0
