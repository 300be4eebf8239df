"""Model files on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from draem.errors import ModelFileError, missing_dependency

_ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+?)(@(?P<revision>[^@]+))?")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FORM = "hf://ORGANISATION/NAME/model.onnx, or with @ and a branch, tag or commit after it"


def is_hub_address(path: str | Path) -> bool:
    """Whether a path is an address on the Hub; `Path` makes one of its two slashes."""
    return str(path).startswith("hf:/")


def hub_file(address: str | Path) -> Path:
    """Fetch a model file from the Hub, or find it among those fetched earlier.

    The Hub is asked for the hash of the file, and what was fetched must have it. Of an OpenVINO
    model the `.bin` file is fetched too. `HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE`
    are those of huggingface_hub.

    Args:
        address: `hf://ORGANISATION/NAME/FILE@REVISION`; the newest revision if there is none.

    Returns:
        The file in the cache.

    Raises:
        ModelFileError: The address is of another form, there is no such file or the Hub cannot be
            reached, or the file is damaged.
        MissingDependencyError: huggingface_hub is not installed.
    """
    found = _ADDRESS.fullmatch(str(address))
    if found is None:
        raise ModelFileError("this is no address on the Hub", expected=_FORM, found=str(address))
    name = found["file"]
    path = _fetched(found["repo"], name, found["revision"])
    if name.lower().endswith(".xml"):
        _fetched(found["repo"], f"{name[:-4]}.bin", found["revision"])
    return path


def _fetched(repo: str, name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise missing_dependency(error, "loading from the Hub", "hub") from error
    shown = f"hf://{repo}/{name}" + (f"@{revision}" if revision else "")
    try:
        path = Path(
            hf_hub_download(
                repo,
                name,
                revision=revision,
                endpoint=os.environ.get("HF_ENDPOINT"),
                library_name="draem",
            )
        )
    except LocalEntryNotFoundError as error:
        raise ModelFileError(
            f"{shown} cannot be fetched, and was not fetched earlier",
            hint="Check the connection, HF_ENDPOINT and HF_HUB_OFFLINE",
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{shown} cannot be fetched",
            found=" ".join(str(error).split())[:200],
            hint="Check the name, the revision, and HF_TOKEN if the repository is private",
        ) from error
    _check(path, shown)
    return path


def _check(path: Path, shown: str) -> None:
    """Compare the file with the hash that the Hub gave for it, which is its name in the cache."""
    blob = path.resolve()
    if not _HASH.fullmatch(blob.name):  # a cache on a disk without links has the plain names
        return
    content = blob.read_bytes()
    if len(blob.name) == 64:
        found = hashlib.sha256(content).hexdigest()
    else:  # small files have the hash of git
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if found != blob.name:
        raise ModelFileError(
            f"{shown} is damaged",
            path=blob,
            expected=f"the hash {blob.name}",
            found=found,
            hint="Delete the file, so that it is fetched again",
        )
