"""The project's own files agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import draem

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_api_reference_holds_every_public_name() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    documented = set(re.findall(r"^::: draem\.(\w+)$", pages, re.MULTILINE))
    assert documented - {"errors"} == set(draem.__all__) - {"__version__", "DraemError"}


def test_every_decision_is_listed() -> None:
    pages = {path.name for path in (ROOT / "docs/decisions").glob("0*.md")}
    for index in ("docs/decisions/README.md", "mkdocs.yml"):
        assert set(re.findall(r"(\d{4}-[\w-]+\.md)", read(index))) == pages, index


def test_hooks_use_the_pinned_ruff() -> None:
    (pinned,) = re.findall(r"^ruff==(\S+)", read("constraints.txt"), re.MULTILINE)
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert hooks[0]["rev"] == f"v{pinned}"


def test_ci_covers_the_versions_that_the_package_names() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    named = [line.rsplit(" ", 1)[1] for line in project["classifiers"] if ":: 3." in line]
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"


def test_the_changelog_has_the_version() -> None:
    assert re.search(
        rf"^## \[{re.escape(draem.__version__)}\] - \d{{4}}-\d\d-\d\d$", read("CHANGELOG.md"), re.M
    )


def test_tests_import_no_benchmarks() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) benchmarks\b", text, re.MULTILINE), path
