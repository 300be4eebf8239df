"""Data sets of MVTec and those in the same layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from draem.datasets.folders import find_images, search_images, subfolders
from draem.datasets.layouts.category import (
    Categories,
    Category,
    Labelled,
    listed_samples,
)
from draem.datasets.mvtec import search_normal_images
from draem.datasets.samples import (
    Sample,
    is_good,
    normal_sample,
    search_category,
    search_samples,
    truth_folder,
)


def find_mvtec_ad(root: Path) -> Categories:
    """MVTec AD: `CATEGORY/train/good`, `test/<defect>`, `ground_truth/<defect>/NNN_mask.png`.

    MPDD has the same layout.

    Source:
        Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021. Jezek et al., Deep
        Learning-Based Defect Detection of Metal Parts (MPDD), ICUMT 2021.
    """
    return _named(root, "mvtec_ad", "train/good", "test")


def find_btad(root: Path) -> Categories:
    """BTAD: `0N/train/ok`, `test/ok`, `test/ko`, `ground_truth/ko`, masks called like images.

    Source:
        Mishra et al., VT-ADL, ISIE 2021.
    """
    return _named(root, "btad", "train/ok", "test/ko")


def find_mvtec_loco(root: Path) -> Categories:
    """MVTec LOCO: `test/logical_anomalies` and `structural_anomalies`, a folder of masks per image.

    Every mask counts whole. The images in `validation` are left alone.

    Source:
        Bergmann et al., Beyond Dents and Scratches, IJCV 2022.
    """
    return _named(root, "mvtec_loco", "train/good", "test/logical_anomalies")


def find_mvtec_ad_2(root: Path) -> Categories:
    """MVTec AD 2: `test_public` with its own `ground_truth`; what is private has no labels.

    Source:
        Heckler-Kram et al., The MVTec AD 2 Dataset, 2025.
    """

    def category(folder: Path) -> Category:
        public = folder / "test_public"
        return Category(
            folder.name,
            folder,
            "mvtec_ad_2",
            lambda: search_normal_images(folder),
            lambda: search_samples(folder, public, truth_folder(public)),
        )

    return _each(root, category, "train/good", "test_public")


def find_mvtec_3d_ad(root: Path) -> Categories:
    """MVTec 3D-AD: `train/good/rgb/NNN.png`; masks are called like their images in `gt`.

    The height maps (`xyz`) are left alone.

    Source:
        Bergmann et al., The MVTec 3D-AD Dataset, VISAPP 2022.
    """

    def test(folder: Path) -> Labelled:
        samples = []
        for defect in subfolders(folder / "test"):
            for image in find_images(defect / "rgb"):
                mask = defect / "gt" / image.name
                samples.append(
                    normal_sample(image)
                    if is_good(defect.name)
                    else Sample(image, 1, defect.name, (mask,))
                )
        return listed_samples(folder, samples)

    def category(folder: Path) -> Category:
        rgb = folder / "train" / "good" / "rgb"
        return Category(
            folder.name, folder, "mvtec_3d_ad", lambda: search_images(rgb), lambda: test(folder)
        )

    return _each(root, category, "train/good/rgb", "test")


def folder_of_images(root: Path) -> Category:
    """A folder in no known layout: a category with only one of its halves, or normal images."""
    return _category(root, "folder")


def _named(root: Path, layout: str, *needed: str) -> Categories:
    return _each(root, lambda folder: _category(folder, layout), *needed)


def _category(folder: Path, layout: str) -> Category:
    return Category(
        folder.resolve().name,
        folder,
        layout,
        lambda: search_normal_images(folder),
        lambda: search_category(folder),
    )


def _each(root: Path, category: Callable[[Path], Category], *needed: str) -> Categories:
    """The folder itself, or those in it, that have all needed folders."""
    folders = [
        folder
        for folder in (root, *subfolders(root))
        if all((folder / name).is_dir() for name in needed)
    ]
    found = folders[:1] if folders[:1] == [root] else folders
    return {made.name: made for made in map(category, found)}
