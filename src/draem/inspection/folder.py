"""Inspect many image files: one line of results, a map and an overlay each."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.datasets.mvtec import expand_folders
from draem.datasets.parallel import note_thread
from draem.errors import ImageError
from draem.files import explained_output, locked, make_folder, refuse_link
from draem.imaging.annotate import annotate_regions, draw_plate
from draem.imaging.colormap import outline, overlay
from draem.imaging.decode import decode_image, read_size
from draem.imaging.encode import map_to_uint16, write_png
from draem.imaging.roi import roi_at
from draem.inspection.coco import coco_file
from draem.inspection.inspector import Inspection, Inspector
from draem.inspection.prefetch import prefetch
from draem.inspection.regions import Region
from draem.inspection.results_file import results_file
from draem.output_paths import PICTURES, RESULTS, picture_names

_BATCH_BYTES = 2**26
"""Decoded images that are inspected together need no more memory than this and one image."""
_WAITING = 1
"""Images that may wait to be inspected or to have their pictures written; large ones are heavy."""
_RESULT = ("anomaly_score", "threshold", "is_anomalous", "decision", "regions")
_REGION_COLOR = (255, 255, 255)
_FAINT = 0.35


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a set of files.

    Attributes:
        results: The results file.
        images: Files in all.
        anomalous: Images found anomalous; 0 if the model has no threshold.
        failures: Files that could not be read, each with the reason.
        review: Images for a person to look at; 0 if the model has no review threshold.
    """

    results: Path
    images: int
    anomalous: int
    failures: tuple[tuple[Path, str], ...]
    review: int = 0

    @property
    def passed(self) -> int:
        """Images that were read and are neither anomalous nor for review."""
        return self.images - self.anomalous - self.review - len(self.failures)


def inspect_files(
    inspector: Inspector,
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    coco: bool = False,
    maps: bool = True,
    overlays: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Inspect image files and write what is found.

    Decoding, inference and writing overlap, in a thread each.

    `out` receives `results.jsonl` with one line per image, in the order of `paths`, written as the
    work goes on: `image`, `anomaly_score`, `threshold`, `is_anomalous`, `decision`, `regions`
    (each with what `Region` has), `map` and `overlay` (files in `out`); or `image` and `error`
    if a file cannot be read, all else null. Until all images are done,
    `results.jsonl.incomplete` is next to it; if it stays, the work was cut short. Maps are 16-bit
    PNG files, 65535 standing for 1, of the image's size. Maps and overlays are in the images'
    folders below the common parent of all images.

    Args:
        inspector: The model.
        paths: Image files, and folders, searched with theirs.
        out: The folder to write into; an earlier results file and maps and overlays of the same
            names are replaced, and an earlier `coco.json` is deleted.
        maps: Write the anomaly maps.
        overlays: Write the overlays.
        coco: Also write the regions as `coco.json`, once all images are done.
        progress: Called with (images done, images in all).

    Raises:
        DatasetError: A folder holds no images.
        OutputError: The folder cannot be written, another process writes into it, or a file or
            folder in it that would be written is a link.
    """
    files = expand_folders([paths] if isinstance(paths, str | Path) else paths)
    with locked(out):
        return _inspect_files(inspector, files, Path(out), coco, maps, overlays, progress)


def _inspect_files(
    inspector: Inspector,
    paths: Sequence[Path],
    folder: Path,
    coco: bool,
    maps: bool,
    overlays: bool,
    progress: Callable[[int, int], None] | None,
) -> Summary:
    """See `inspect_files`."""
    writer = _Writer(folder, inspector.region_of_interest, maps=maps, overlays=overlays)
    results, regions = folder / RESULTS, folder / "coco.json"
    failures: list[tuple[Path, str]] = []
    anomalous = review = 0
    with explained_output(results):
        refuse_link(regions)
        if regions.is_file():
            regions.unlink()  # it may tell of other images than the results do
        with (
            coco_file(regions) if coco else contextlib.nullcontext() as annotate,
            results_file(results) as file,
        ):
            inspected = _inspected(inspector, paths)
            for done, (read, line) in enumerate(_written(inspected, writer), 1):
                if isinstance(read.image, ImageError):
                    failures.append((read.path, read.image.problem))
                elif read.found is not None:
                    anomalous += bool(read.found.is_anomalous)
                    review += read.found.decision == "review"
                    if annotate:
                        annotate(read.path, read.image.shape[:2], read.found.regions)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                if progress:
                    progress(done, len(paths))
    return Summary(results, len(paths), anomalous, tuple(failures), review)


@dataclass(slots=True)
class _Read:
    """An image file on its way: as it was read, and then what was found on it."""

    path: Path
    name: str
    image: NDArray[np.uint8] | ImageError
    prepared: NDArray[np.uint8] | None = None
    found: Inspection | None = None


def _inspected(inspector: Inspector, paths: Sequence[Path]) -> Iterator[_Read]:
    """Every file inspected, the next ones decoded and resized meanwhile."""

    def read(path: Path, name: str) -> _Read:
        try:
            image = decode_image(path)
        except ImageError as error:
            return _Read(path, name, error)
        return _Read(path, name, image, inspector.prepare(image))

    named = zip(paths, picture_names(paths), strict=True)
    reads = prefetch((read(path, name) for path, name in named), _decoded_ahead(inspector, paths))
    for batch in _batches(reads, inspector.batch_size):
        usable = [
            (each, each.image, each.prepared)
            for each in batch
            if not isinstance(each.image, ImageError) and each.prepared is not None
        ]
        found = inspector.inspect_prepared(
            [image for _, image, _ in usable], [prepared for *_, prepared in usable]
        )
        for (each, *_), each_found in zip(usable, found, strict=True):
            each.found = each_found
        yield from batch


def _decoded_ahead(inspector: Inspector, paths: Sequence[Path]) -> int:
    """How many images are decoded while others are inspected: a batch, if they are small."""
    for path in paths:
        with contextlib.suppress(ImageError):
            height, width = read_size(path)
            return max(_WAITING, min(inspector.batch_size, _BATCH_BYTES // (3 * height * width)))
    return _WAITING


def _batches(reads: Iterator[_Read], size: int) -> Iterator[list[_Read]]:
    """Batches of bounded memory; the first image alone, so that its result comes at once."""
    batch: list[_Read] = []
    nbytes, most = 0, 1
    for read in reads:
        batch.append(read)
        nbytes += 0 if isinstance(read.image, ImageError) else read.image.nbytes
        if len(batch) >= most or nbytes >= _BATCH_BYTES:
            yield batch
            batch, nbytes, most = [], 0, size
    if batch:
        yield batch


def _written(
    inspected: Iterable[_Read], writer: _Writer
) -> Iterator[tuple[_Read, dict[str, object]]]:
    """Every file with its line of results, in order, once its pictures are written."""
    with ThreadPoolExecutor(1, "draem-write", initializer=note_thread) as pool:
        waiting: deque[tuple[_Read, Future[dict[str, object]]]] = deque()
        may_wait = 0  # the first result is given at once, not when the second image is inspected
        for each in inspected:
            waiting.append((each, pool.submit(writer.write, each)))
            if len(waiting) > may_wait:
                done, line = waiting.popleft()
                yield done, line.result()
                may_wait = _WAITING
        for done, line in waiting:
            yield done, line.result()


class _Writer:
    """Writes the pictures of an inspection.

    Args:
        folder: Where to.
        inside: The region of interest, for the overlays; None for everything.
        maps: Write anomaly maps.
        overlays: Write overlays.
    """

    def __init__(
        self, folder: Path, inside: NDArray[np.bool_] | None, *, maps: bool, overlays: bool
    ) -> None:
        self._maps = _own_folder(folder / PICTURES[0]) if maps else None
        self._overlays = _own_folder(folder / PICTURES[1]) if overlays else None
        self._inside = inside
        self._pictures = ("map",) * maps + ("overlay",) * overlays

    def write(self, read: _Read) -> dict[str, object]:
        """Write the pictures of one image; returns its line of results."""
        line: dict[str, object] = {"image": str(read.path)}
        if isinstance(read.image, ImageError) or read.found is None:
            nothing = dict.fromkeys((*_RESULT, *self._pictures))
            return line | nothing | {"error": str(read.image)}
        line |= result_line(read.found)
        if self._maps:
            write_png(_place(self._maps, read.name), map_to_uint16(read.found.anomaly_map))
            line["map"] = f"maps/{read.name}"
        if self._overlays:
            picture = draw_overlay(read.image, read.found, self._inside)
            write_png(_place(self._overlays, read.name), picture)
            line["overlay"] = f"overlays/{read.name}"
        return line


def _place(folder: Path, name: str) -> Path:
    """Where a picture goes, its folder made."""
    *folders, last = name.split("/")
    for each in folders:
        folder = _own_folder(folder / each)
    return folder / last


def _own_folder(folder: Path) -> Path:
    """Make a folder for pictures; behind a link there may be photographs of the same names."""
    refuse_link(folder)
    return make_folder(folder)


def result_line(found: Inspection) -> dict[str, object]:
    """The JSON-ready part of an inspection."""
    return {name: getattr(found, name) for name in _RESULT} | {
        "regions": [
            {name: getattr(region, name) for name in Region.__slots__} for region in found.regions
        ],
    }


def draw_overlay(
    image: NDArray[np.uint8], found: Inspection, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """The image with its anomaly map over it, its regions marked and the decision in a corner.

    Args:
        image: (height, width, 3) uint8 RGB, as it was inspected.
        found: What was found on it.
        inside: The Inspector's region of interest, whose outline is drawn faintly.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    picture = overlay(image, found.anomaly_map, found.threshold)
    if inside is not None:
        lined = outline(picture, roi_at(inside, image.shape[:2]), _REGION_COLOR)
        picture = cv2.addWeighted(lined, _FAINT, picture, 1 - _FAINT, 0).astype(np.uint8)
    boxes = [region.box for region in found.regions]
    picture = annotate_regions(picture, boxes, [region.contour for region in found.regions])
    draw_plate(picture, _plate_text(found), boxes)
    return picture


def _plate_text(found: Inspection) -> str:
    if found.threshold is None:
        return f"score {found.anomaly_score:.3g}"
    return f"{found.decision}  {found.anomaly_score:.3g} / {found.threshold:.3g}"
