"""Models on the Hugging Face Hub: a local server speaks the part of its API that files need."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import draem
from draem.errors import InputError, ModelFileError
from draem.inspection.hub import hub_file
from draem.inspection.loading import model_path

COMMIT = "a" * 40
Files = dict[str, bytes]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Files, dict[str, str]]]:
    """The files of the repository `maker/parts` by name, and the environment that finds them."""
    files: Files = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            start, _, rest = self.path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            content = files.get(name)
            known = start == "/maker/parts" and revision in ("main", "v1", COMMIT)
            if not known or content is None:
                self.send_response(404)
                code = "EntryNotFound" if known else "RevisionNotFound"
                self.send_header("X-Error-Code", code)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    place = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    yield files, place
    server.shutdown()
    thread.join()
    server.server_close()


def published(files: Files, model: Path) -> None:
    """Publish an exported model in every format."""
    for kind in ("onnx", "openvino"):
        exported = draem.export(model, kind).path
        for path in {exported, exported.with_suffix(".bin")}:
            if path.is_file():
                files[path.name] = path.read_bytes()


FETCH = """
import sys
import draem
from draem.errors import DraemError
for address in sys.argv[1:]:
    try:
        print(draem.load(address).card.fingerprint)
    except DraemError as error:
        print(type(error).__name__, error)
"""


def test_a_model_is_fetched_once_and_whole(
    hub: tuple[Files, dict[str, str]],
    tiny_model: Path,
    run_python: Callable[..., CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    files, place = hub
    published(files, tiny_model)
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    addresses = [
        *(f"hf://maker/parts/{name}@v1" for name in files if not name.endswith(".bin")),
        f"hf://maker/parts/{next(name for name in files if name.endswith('.onnx'))}",
    ]
    ours = draem.load(tiny_model).card.fingerprint
    ended = run_python(FETCH, *addresses)
    assert ended.stdout.split() == [ours] * 3, ended.stderr

    # Away from the network, what was fetched is still there.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = run_python(FETCH, *addresses, "hf://maker/parts/other.onnx")
    *found, refused = ended.stdout.splitlines()
    assert found == [ours] * 3, ended.stderr
    assert refused.startswith("ModelFileError hf://maker/parts/other.onnx cannot be fetched, and")

    # A file in the cache that was changed is found out.
    (blob,) = [
        path
        for path in (tmp_path / "hub").rglob("blobs/*")
        if path.read_bytes() == files[addresses[-1].rpartition("/")[2]]
    ]
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    ended = run_python(FETCH, addresses[-1])
    assert ended.stdout.startswith(f"ModelFileError {blob}: {addresses[-1]} is damaged. Expected")


@pytest.mark.parametrize("address", ["maker/parts/other.onnx", "maker/parts/m.onnx@v9", "who/x/m"])
def test_what_is_not_there_is_told(
    address: str,
    hub: tuple[Files, dict[str, str]],
    run_python: Callable[..., CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in hub[1].items():
        monkeypatch.setenv(name, value)
    ended = run_python(FETCH, f"hf://{address}")
    assert ended.stdout.startswith(f"ModelFileError hf://{address} cannot be fetched. Found"), (
        ended.stdout + ended.stderr
    )


@pytest.mark.parametrize("address", ["hf://model.onnx", "hf://maker/parts", "hf://a/b/c@d@e"])
def test_other_forms_are_refused(address: str) -> None:
    with pytest.raises(ModelFileError, match="no address on the Hub"):
        hub_file(address)


def test_nothing_is_written_next_to_a_fetched_model() -> None:
    with pytest.raises(InputError, match=r"is on the Hub.*a model file of your own"):
        model_path("hf://maker/parts/model.onnx", fetch=False)
