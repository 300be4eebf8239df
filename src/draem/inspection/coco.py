"""Regions as a COCO file, which annotation tools and dataset viewers read.

Source:
    The format of the COCO dataset, https://cocodataset.org/#format-data, with the `score` of its
    results next to each annotation.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from draem._version import __version__
from draem.files import replacing
from draem.inspection.regions import Region

Annotate = Callable[[Path, tuple[int, int], Sequence[Region]], None]


@contextlib.contextmanager
def coco_file(path: Path) -> Iterator[Annotate]:
    """Write a COCO file image by image, in constant memory, whole or not at all.

    Gives a function that takes an image's path, its height and width, and its regions. There is
    one category, `anomaly`. An annotation's `score` is the region's peak.

    Args:
        path: The file to write or replace, once all images are done.

    Raises:
        OutputError: The file cannot be written.
    """
    head = {
        "info": {"description": "Anomalous regions", "version": f"draem {__version__}"},
        "licenses": [],
        "categories": [{"id": 1, "name": "anomaly", "supercategory": "anomaly"}],
    }
    # Images and annotations come in turns and belong into lists of their own, so that the images
    # wait in a second file, which is gone when it is closed.
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
        tempfile.TemporaryFile(
            "w+", encoding="utf-8", errors="backslashreplace", dir=path.parent
        ) as waiting,
    ):
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        images = annotations = 0

        def annotate(image: Path, size: tuple[int, int], regions: Sequence[Region]) -> None:
            nonlocal images, annotations
            for region in regions:
                line = json.dumps(_annotation(annotations + 1, images + 1, region))
                file.write((",\n" if annotations else "\n") + line)
                annotations += 1
            line = json.dumps(_image(images + 1, image, size), ensure_ascii=False)
            waiting.write((",\n" if images else "\n") + line)
            images += 1

        yield annotate
        file.write('\n], "images": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file)
        file.write("\n]}\n")


def _image(number: int, path: Path, size: tuple[int, int]) -> dict[str, object]:
    return {"id": number, "file_name": str(path), "height": size[0], "width": size[1]}


def _annotation(number: int, image: int, region: Region) -> dict[str, object]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": region.box,
        "area": region.area,
        "segmentation": [[place for corner in region.contour for place in corner]],
        "iscrowd": 0,
        "score": region.peak,
    }
