from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_keeps_its_promise(
    start_draem: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    started = time.monotonic()
    process = start_draem("demo", "--out", tmp_path / "demo", "--device", "cpu")
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert time.monotonic() - started < 5 * 60
    assert Path(out.splitlines()[-1]).is_file()
    document = json.loads((tmp_path / "demo" / "metrics.json").read_text(encoding="utf-8"))
    assert document["image_auroc"] >= 0.98
