"""Which layout a folder is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from draem.datasets.folders import subfolders
from draem.datasets.layouts import listed, mvtec, surfaces
from draem.datasets.layouts.category import Categories, Category
from draem.errors import DatasetError, InputError

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a data set is stored.

    Attributes:
        title: Its name, as people know it.
        find: Finds the categories in a folder or a manifest; none if it is not in this layout.
    """

    title: str
    find: Callable[[Path], Categories]


LAYOUTS = MappingProxyType(
    {
        "manifest": Layout("a manifest (CSV or Parquet)", listed.find_manifest),
        "real_iad": Layout("Real-IAD", listed.find_real_iad),
        "visa": Layout("VisA", listed.find_visa),
        "dagm": Layout("DAGM 2007", surfaces.find_dagm),
        "kolektor_sdd": Layout("KolektorSDD", surfaces.find_kolektor_sdd),
        "kolektor_sdd_2": Layout("KolektorSDD2", surfaces.find_kolektor_sdd_2),
        "magnetic_tile": Layout("Magnetic tile defects", surfaces.find_magnetic_tile),
        "mvtec_ad_2": Layout("MVTec AD 2", mvtec.find_mvtec_ad_2),
        "mvtec_3d_ad": Layout("MVTec 3D-AD", mvtec.find_mvtec_3d_ad),
        "mvtec_loco": Layout("MVTec LOCO", mvtec.find_mvtec_loco),
        "btad": Layout("BTAD", mvtec.find_btad),
        "mvtec_ad": Layout("MVTec AD, MPDD and alike", mvtec.find_mvtec_ad),
    }
)
"""By name; the first that finds categories is the layout of a folder, so special ones go first."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set in one of the layouts.

    Attributes:
        root: The folder or the manifest.
        layout: Name of the layout, a key of `LAYOUTS`.
        categories: Its products by name, in order.
    """

    root: Path
    layout: str
    categories: Categories

    def __getitem__(self, category: str) -> Category:
        """The category of a name.

        Raises:
            DatasetError: There is none.
        """
        try:
            return self.categories[category]
        except KeyError:
            raise DatasetError(
                f"there is no category {category!r} in it",
                path=self.root,
                expected=", ".join(self.categories),
            ) from None


def open_dataset(root: str | Path, layout: str = AUTO) -> Dataset:
    """Find out in which layout a data set is, and which categories it has.

    Args:
        root: Its folder, the folder of one of its categories, or a manifest.
        layout: A key of `LAYOUTS`, or `auto`.

    Raises:
        DatasetError: It does not exist, or is not in the layout, or in none.
        InputError: The layout is unknown.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError("does not exist", path=root, expected="a data set's folder or manifest")
    if layout not in (AUTO, *LAYOUTS):
        raise InputError(
            "this layout is unknown", expected=", ".join((AUTO, *LAYOUTS)), found=layout
        )
    if found := _recognised(root, layout):
        return found
    asked = "any layout" if layout == AUTO else f"the layout of {LAYOUTS[layout].title}"
    raise DatasetError(
        f"is not in {asked} that draem knows",
        path=root,
        expected="a data set's folder, as it is published, or a manifest",
        found=_content(root),
        hint="Describe the images in a manifest: a CSV file with the columns "
        f"{', '.join(listed.MANIFEST_COLUMNS)}",
    )


def as_category(data: str | Path | Category, category: str = "", layout: str = AUTO) -> Category:
    """One product to train on or to test with.

    Args:
        data: The product's folder, or a data set that has one product, or several and `category`
            says which. A folder in no known layout is taken as one of normal images.
        category: Which product of several; may be empty if there is one.
        layout: A key of `LAYOUTS`, or `auto`.

    Raises:
        DatasetError: There are several products and none is named, or not this one.
        InputError: The layout is unknown.
    """
    if isinstance(data, Category):
        return data
    root = Path(data)
    may_be_plain = not category and layout == AUTO and root.is_dir()
    found = _recognised(root, AUTO) if may_be_plain else open_dataset(root, layout)
    if found is None:
        return mvtec.folder_of_images(root)
    if category:
        return found[category]
    if len(found.categories) > 1:
        raise DatasetError(
            f"has {len(found.categories)} categories ({LAYOUTS[found.layout].title})",
            path=root,
            expected="one category",
            found=", ".join(found.categories),
            hint="Name one with --category",
        )
    return next(iter(found.categories.values()))


def _recognised(root: Path, layout: str) -> Dataset | None:
    """The data set, if it is in the layout, or in any if that is `auto`."""
    for name in LAYOUTS if layout == AUTO else (layout,):
        if (root.is_dir() or name == "manifest") and (found := LAYOUTS[name].find(root)):
            return Dataset(root, name, found)
    return None


def _content(root: Path) -> str:
    if not root.is_dir():
        return f"a file that ends in {root.suffix or 'nothing'}"
    names = [folder.name for folder in subfolders(root)]
    return f"the folders {', '.join(names[:8])}" if names else "no folders"
