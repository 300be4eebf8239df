"""Every error that draem raises on purpose.

Each says what was expected, what came instead and what to do about it::

    DraemError
    ├── InputError                what the caller gave cannot be used
    │   ├── ImageError            a file is not an image that draem can read
    │   ├── DatasetError          a folder does not hold what its use needs
    │   ├── TextureError          a texture folder does not hold textures
    │   ├── ImageSizeError        a size does not suit the network
    │   ├── RecipeError           an option is unknown or out of range
    │   └── ModelFileError        a file is not a model that draem can read
    ├── OutputError               a result cannot be written
    │   └── RunExistsError        a run would overwrite an earlier one
    ├── OutOfMemoryError          the machine has less memory than this takes
    ├── ExportError               an exported model is not what it should be
    ├── MissingDependencyError    an optional part of draem is not installed
    ├── TrackerError              an experiment tracker cannot be reached
    └── TrainingError             training cannot go on
        └── TrainingInterrupted   the user stopped it; it can be resumed
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_OTHERS = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_ACTING = re.compile(f"[\0-\x1f{_OTHERS}]")
_ACTING_BUT_LINES = re.compile(f"[\0-\x09\x0b-\x1f{_OTHERS}]")
"""Characters that act on a terminal, with and without the end of a line."""


class DraemError(Exception):
    """The base of every error that draem raises on purpose.

    Args:
        problem: What is wrong, as one clause without a full stop.
        path: The file or folder concerned.
        expected: What would have been right.
        found: What was there instead.
        hint: What to do about it, as one sentence without a full stop.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = Path(path) if path is not None else None
        self.expected = expected
        self.found = found
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        path = "" if self.path is None else f"{shown(self.path)}: "
        sentences = [f"{path}{self.problem}"]
        if self.expected is not None:
            sentences.append(f"Expected {self.expected}")
        if self.found is not None:
            sentences.append(f"Found {self.found}")
        if self.hint is not None:
            sentences.append(self.hint)
        return shown("".join(_ended(sentence) for sentence in sentences).rstrip(), lines=True)

    def __reduce__(self) -> tuple[object, ...]:
        keywords = {
            "path": self.path,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
        }
        return _rebuild, (type(self), self.problem, keywords)


def _ended(sentence: str) -> str:
    """With its full stop and a space, unless it ends with a mark, or a new line, of its own."""
    if sentence.endswith("\n"):
        return sentence
    return f"{sentence} " if sentence.endswith((".", "?", "!")) else f"{sentence}. "


def _rebuild(
    kind: type[DraemError], problem: str, keywords: dict[str, str | Path | None]
) -> DraemError:
    return kind(problem, **keywords)  # type: ignore[arg-type]


class InputError(DraemError):
    """What the caller gave cannot be used."""


class ImageError(InputError):
    """A file is not an image that draem can read."""


class DatasetError(InputError):
    """A folder does not hold what its use needs."""


class TextureError(InputError):
    """A texture folder does not hold usable textures."""


class ImageSizeError(InputError):
    """An image size does not suit the network."""


class RecipeError(InputError):
    """A recipe or an option is unknown or out of range."""


class ModelFileError(InputError):
    """A file is not a model that draem can read."""


class OutputError(DraemError):
    """A result cannot be written."""


class RunExistsError(OutputError):
    """A run would overwrite an earlier one."""


class OutOfMemoryError(DraemError):
    """The machine has less memory than this takes."""


class ExportError(DraemError):
    """An exported model cannot be made, or says something else than the model."""


class MissingDependencyError(DraemError):
    """An optional part of draem is not installed."""


class TrackerError(DraemError):
    """An experiment tracker cannot be reached, or refuses the run."""


class TrainingError(DraemError):
    """Training cannot go on."""


class TrainingInterrupted(TrainingError):
    """The user stopped the training; the run can be resumed."""


_PACKAGES = {
    "_mnncengine": "MNN",
    "_tools": "MNN",
    "cv2": "opencv-python-headless",
    "onnx_ir": "onnxscript",
    "PIL": "pillow",
    "skimage": "scikit-image",
}
"""Packages that are called otherwise than the modules that are imported."""


def missing_dependency(
    error: ImportError, what: str, extra: str = "train", package: str | None = None
) -> MissingDependencyError:
    """The error for a library that cannot be imported.

    Args:
        error: What the import raised.
        what: What needs the library.
        extra: The extra of draem that installs it; empty for the base install.
        package: The package that the user must install; by default that of the missing module.

    Raises:
        ImportError: The same error, if it is not about a library but about draem itself.

    Example:
        >>> error = ModuleNotFoundError(name="skimage.filters")
        >>> missing_dependency(error, "this").problem
        'this needs scikit-image, which is not installed'
    """
    module = (error.name or "").partition(".")[0]
    if module == "draem" or not (module or package):
        raise error
    missing = isinstance(error, ModuleNotFoundError)
    return MissingDependencyError(
        f"{what} needs {package or _PACKAGES.get(module, module)}, which "
        + ("is not installed" if missing else f"cannot be loaded ({error})"),
        hint="Install it with: pip install " + (f"'draem[{extra}]'" if extra else "draem"),
    )


class DraemWarning(UserWarning):
    """Something that works, but that the user should know."""


def list_problems(problems: Sequence[DraemError], limit: int = 20) -> str:
    """One line a problem, the first `limit` of them, and how many more there are."""
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  and {len(problems) - limit} more")
    return "\n".join(lines)


def list_invalid(errors: Sequence[Mapping[str, Any]], limit: int = 5) -> str:
    """What validation found, the first values of it by name, and how many more there are.

    Args:
        errors: What pydantic's `ValidationError.errors` gives.
        limit: How many to name.
    """
    named = []
    for error in errors[:limit]:
        # Pydantic names the types of tuples among the keys.
        keys = [str(key) for key in error["loc"] if not str(key).startswith("tuple[")]
        named.append(f"{shortened('.'.join(keys))}: {shortened(error['msg'])}")
    if len(errors) > limit:
        named.append(f"and {len(errors) - limit} more")
    return "; ".join(named)


def shown(text: object, *, lines: bool = False) -> str:
    r"""A text that leaves the terminal as it is: characters that would act on it are escaped.

    They are the control characters, those that turn the direction of writing, and what stands for
    bytes of a file name that are not Unicode.

    Args:
        text: A name, a path or another text of unknown origin.
        lines: Leave ends of lines as they are.

    Example:
        >>> print(shown("\x1b[31mred\n"))
        \x1b[31mred\n
    """
    return (_ACTING_BUT_LINES if lines else _ACTING).sub(
        lambda found: found[0].encode("unicode_escape").decode(), str(text)
    )


def shortened(text: str, most: int = 200) -> str:
    """A text of unknown length and origin, cut and on one line for a message.

    Example:
        >>> shortened("threshold"), shortened("thresholds", most=9)
        ('threshold', 'threshold... (10 characters)')
    """
    return shown(text) if len(text) <= most else f"{shown(text[:most])}... ({len(text)} characters)"


def counted(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "image"), counted(0, "image")
        ('1 image', '0 images')
    """
    return f"{number} {what}" + "s" * (number != 1)
