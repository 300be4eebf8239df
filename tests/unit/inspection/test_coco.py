from __future__ import annotations

import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draem.errors import OutputError
from draem.imaging.decode import decode_image
from draem.inspection.coco import coco_file
from draem.inspection.folder import inspect_files
from draem.inspection.inspector import Inspector
from draem.inspection.regions import Region
from tests.reference.polygon import polygon_area

Save = Callable[[Path, np.ndarray], Path]

SQUARE = Region((2, 3, 4, 4), 16, 0.75, 0.5, ((2, 3), (2, 7), (6, 7), (6, 3)))


def marked(*places: tuple[int, int]) -> np.ndarray:
    """An image with a red square of 12 pixels a side at each place."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    for top, left in places:
        pixels[top : top + 12, left : left + 12, 0] = 255
    return pixels


def check(coco: dict[str, Any]) -> None:
    """What readers of the format rely on."""
    assert {"images", "annotations", "categories"} <= coco.keys()
    assert [category["id"] for category in coco["categories"]] == [1]
    assert coco["categories"][0]["name"] == "anomaly"
    images = {image["id"]: image for image in coco["images"]}
    assert len(images) == len(coco["images"])
    numbers = [annotation["id"] for annotation in coco["annotations"]]
    assert len(set(numbers)) == len(numbers)
    assert all(number > 0 for number in [*images, *numbers])
    for annotation in coco["annotations"]:
        image = images[annotation["image_id"]]
        assert (annotation["category_id"], annotation["iscrowd"]) == (1, 0)
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= image["width"]
        assert 0 <= y < y + height <= image["height"]
        (polygon,) = annotation["segmentation"]
        assert len(polygon) >= 6
        assert len(polygon) % 2 == 0
        assert 0 < annotation["score"] <= 1


def test_the_regions_of_every_image_are_written(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    images = [marked((4, 4), (40, 70)), marked(), marked((20, 30))]
    paths = [save_image(tmp_path / f"{n}.png", image) for n, image in enumerate(images)]
    (tmp_path / "broken.png").write_text("no image")
    inspector = red_inspector(0.5, (64, 96))
    inspect_files(
        inspector, [*paths[:2], tmp_path / "broken.png", paths[2]], tmp_path / "out", coco=True
    )
    coco = json.loads((tmp_path / "out/coco.json").read_text(encoding="utf-8"))
    check(coco)
    assert [image["file_name"] for image in coco["images"]] == [str(path) for path in paths]
    assert {(image["height"], image["width"]) for image in coco["images"]} == {(64, 96)}
    assert [annotation["image_id"] for annotation in coco["annotations"]] == [1, 1, 3]
    found = [region for path in paths for region in inspector.inspect(decode_image(path)).regions]
    for annotation, region in zip(coco["annotations"], found, strict=True):
        assert annotation["bbox"] == list(region.box)
        assert annotation["score"] == region.peak
        flat = annotation["segmentation"][0]
        corners = list(zip(flat[::2], flat[1::2], strict=True))
        assert annotation["area"] == region.area == polygon_area(corners) == 144


def test_without_images_the_file_is_still_a_coco_file(tmp_path: Path) -> None:
    with coco_file(tmp_path / "coco.json"):
        pass
    coco = json.loads((tmp_path / "coco.json").read_text())
    check(coco)
    assert coco["images"] == coco["annotations"] == []


def test_it_is_written_on_request_only(
    red_inspector: Callable[..., Inspector], save_image: Save, tmp_path: Path
) -> None:
    path = save_image(tmp_path / "part.png", marked((4, 4)))
    inspect_files(red_inspector(), [path], tmp_path / "out")
    assert not (tmp_path / "out/coco.json").exists()


def test_an_inspection_that_is_cut_short_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text("earlier")

    def cut_short() -> None:
        with coco_file(path) as annotate:
            annotate(Path("a.png"), (64, 64), [SQUARE])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_its_place_is_explained(tmp_path: Path) -> None:
    (tmp_path / "coco.json").mkdir()
    with pytest.raises(OutputError, match=r"coco\.json"), coco_file(tmp_path / "coco.json"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file names")
@pytest.mark.parametrize("name", ["Maß 🙂.png", 'quote"back\\slash.png', os.fsdecode(b"\xff.png")])
def test_any_name_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    with coco_file(tmp_path / "coco.json") as annotate:
        annotate(Path(name), (64, 64), [SQUARE])
        annotate(Path(name), (64, 64), [])
    coco = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    check(coco)
    assert [image["file_name"] for image in coco["images"]] == [name, name]
    assert coco["annotations"][0]["segmentation"] == [[2, 3, 2, 7, 6, 7, 6, 3]]


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    held = []
    with coco_file(tmp_path / "coco.json") as annotate:
        tracemalloc.start()
        for number in range(6001):
            annotate(Path(f"{number}.png"), (64, 64), [SQUARE, SQUARE])
            if number % 3000 == 0:
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    # The names of 3000 images alone would take more.
    assert held[2] - held[1] < 100_000
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert (len(coco["images"]), len(coco["annotations"])) == (6001, 12002)
