"""The file of results, which grows while images are inspected."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from draem.files import refuse_link, write_text
from draem.output_paths import INCOMPLETE


@contextlib.contextmanager
def results_file(path: Path) -> Iterator[TextIO]:
    """Write a new file of results, with the marker `INCOMPLETE` next to it until it is whole.

    A process that is killed can delete no marker, and none can forget to make it.

    Args:
        path: The file to write or replace.

    Raises:
        OutputError: The file is a link, or the marker cannot be written.
    """
    refuse_link(path)
    marker = write_text(
        path.with_name(INCOMPLETE),
        f"{path.name} is being written, or was cut short: not all images have a line in it.\n",
    )
    # A file name that is not Unicode becomes a JSON escape such as \udcff.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    marker.unlink()
