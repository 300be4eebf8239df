from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

import draem

# Lets nothing be imported that is named in the first argument.
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def test_importing_draem_imports_the_standard_library_alone(
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    ended = run_python(
        "import sys\n"
        "before = set(sys.modules)\n"
        "import draem\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*(new - sys.stdlib_module_names))\n"
    )
    assert ended.stdout.split() == ["draem"], ended.stderr


@pytest.mark.parametrize("name", draem.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(draem, name)
    assert value is getattr(draem, name)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__


def test_the_public_names_are_listed_in_order_and_once() -> None:
    assert sorted(draem.__all__) == draem.__all__
    assert len(set(draem.__all__)) == len(draem.__all__)
    assert dir(draem) == draem.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = draem.trian  # type: ignore[attr-defined]
    assert not hasattr(draem, "__unheard_of__")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("train", "torch"),
        ("train", "lightning"),
        ("simulate", "torch"),
        ("SimulatedBatch", "torch"),
        ("import_upstream", "torch"),
    ],
)
def test_a_missing_library_names_what_to_install(
    run_python: Callable[..., CompletedProcess[str]], name: str, missing: str
) -> None:
    ended = run_python(
        BLOCKER + "import draem\n"
        "try:\n"
        "    getattr(draem, sys.argv[2])\n"
        "except draem.DraemError as error:\n"
        "    print(type(error).__name__, error)\n",
        missing,
        name,
    )
    assert ended.stdout == (
        f"MissingDependencyError `draem.{name}` needs {missing}, which is not installed. "
        "Install it with: pip install 'draem[train]'.\n"
    ), ended.stderr


def test_what_needs_no_torch_works_without(
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    ended = run_python(
        BLOCKER + "import draem, tempfile\n"
        "for name in sys.argv[2:]:\n"
        "    getattr(draem, name)\n"
        "try:\n"
        "    with tempfile.NamedTemporaryFile(suffix='.safetensors') as file:\n"
        "        draem.load(file.name)\n"
        "except draem.DraemError as error:\n"
        "    print(type(error).__name__, error)\n",
        "torch,lightning,safetensors,skimage,tensorboard",
        "Evaluation",
        "Inspector",
        "ModelCard",
        "Region",
        "calibrate_model",
        "evaluate",
        "inspect_files",
        "make_recipe",
        "write_metrics",
        "write_report",
    )
    assert ended.stdout == (
        "MissingDependencyError running a .safetensors model needs torch, which is not installed. "
        "Install it with: pip install 'draem[train]'.\n"
    ), ended.stderr


def test_a_missing_library_is_called_as_its_package_is(
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    ended = run_python(
        BLOCKER + "import draem\n"
        "try:\n"
        "    draem.evaluate\n"
        "except draem.DraemError as error:\n"
        "    print(error)\n",
        "cv2",
    )
    assert ended.stdout == (
        "`draem.evaluate` needs opencv-python-headless, which is not installed. "
        "Install it with: pip install 'draem[train]'.\n"
    ), ended.stderr
