"""Which mask belongs to which image, by the names of their files and folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from draem.errors import DatasetError
from draem.imaging.decode import is_image_path

_WORD = r"(?:mask|label|gt|ground_?truth|seg(?:mentation)?)"
_MASK_NAME = re.compile(rf"(.+?)[_-]{_WORD}(?:[_-]?\d+)?|{_WORD}[_-](.+)", re.IGNORECASE)
_NUMBER = re.compile(r"[_-]?\d+$")

Key = tuple[str, ...]
"""An image's folders and its stem, in lower case."""


def masked_name(stem: str) -> str | None:
    """The stem of the image that a mask is of, from its own stem; None if it is not named so.

    Examples:
        >>> masked_name("007_mask"), masked_name("GT_007"), masked_name("007_mask_2")
        ('007', '007', '007')
        >>> masked_name("007") is None
        True
    """
    match = _MASK_NAME.fullmatch(stem)
    return None if match is None else match[1] or match[2]


class Masks:
    """Masks in a folder, found by the names of their images.

    Args:
        folder: What their names are relative to.
        files: All files in it; those that are no images are passed over.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self._by_key: dict[Key, list[Path]] = {}
        for path in sorted(files):
            if is_image_path(path):
                for key in _keys_of_image(path.relative_to(folder)):
                    self._by_key.setdefault(key, []).append(path)

    def of(self, image: Path, key: Key) -> tuple[Path, ...]:
        """The masks of an image; all of what they mark is its defect.

        They are one file called like the image, with or without a word for masks, in MVTec AD's way
        rather than in another; or several that are numbered, or all in a folder called like the
        image.

        Raises:
            DatasetError: There are several, and nothing says which of them are meant.
        """
        found = self._by_key.get(key, [])
        stem = key[-1]
        for exact in (f"{stem}_mask.png", f"{stem}_mask", stem):
            named = [path for path in found if exact in (path.name.lower(), path.stem.lower())]
            if len(named) == 1 and named[0].parent.name.lower() != stem:
                return (named[0],)
        families = {self._family(path, key) for path in found}
        if len(families) > 1 or (len(found) > 1 and families == {""}):
            raise DatasetError(
                "has several masks",
                path=image,
                expected=f"one, such as {stem}_mask.png, or {stem}_mask_1.png and so on, or a "
                f"folder {stem}",
                found=", ".join(str(path.relative_to(self.folder)) for path in found),
            )
        return tuple(found)

    def _family(self, mask: Path, key: Key) -> str:
        """What masks of one image have in common if several of them are meant; else empty."""
        folders = tuple(part.lower() for part in mask.relative_to(self.folder).parts[:-1])
        if folders == key:
            return "folder"
        stem = mask.stem.lower()
        numbered = _NUMBER.search(stem)
        if stem != key[-1] and numbered and not stem.endswith(key[-1]):
            return stem[: numbered.start()]
        return ""


def _keys_of_image(mask: Path) -> list[Key]:
    """What a mask's image may be called."""
    *parts, _ = (part.lower() for part in mask.parts)
    folders = tuple(parts)
    stem = mask.stem.lower()
    image = masked_name(stem)
    keys = [(*folders, stem), *([(*folders, image)] if image else ())]
    # MVTec LOCO has a folder of masks for each image.
    return [*keys, folders] if folders else keys


def masks_next_to_images(images: Sequence[Path]) -> list[Path]:
    """Those of the images that are masks of another of them, in the same folder."""
    stems = {(image.parent, image.stem.lower()) for image in images}

    def is_mask(image: Path) -> bool:
        name = masked_name(image.stem)
        return name is not None and (image.parent, name.lower()) in stems

    return [image for image in images if is_mask(image)]
