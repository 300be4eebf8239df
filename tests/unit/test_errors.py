from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from draem import errors
from draem.errors import (
    DatasetError,
    DraemError,
    ImageError,
    InputError,
    list_problems,
    shown,
)


def all_kinds(kind: type[DraemError] = DraemError) -> list[type[DraemError]]:
    return [kind, *(child for direct in kind.__subclasses__() for child in all_kinds(direct))]


def test_a_bare_problem_is_one_sentence() -> None:
    assert str(DraemError("the part is missing")) == "the part is missing."


def test_everything_known_is_said_in_order() -> None:
    error = ImageError(
        "is too small",
        path="a/b.png",
        expected="16 pixels a side",
        found="8x8",
        hint="Remove it",
    )
    assert str(error) == (
        f"{Path('a/b.png')}: is too small. Expected 16 pixels a side. Found 8x8. Remove it."
    )
    assert error.args == (str(error),)


@pytest.mark.parametrize("mark", [".", "?", "!"])
def test_a_sentence_keeps_the_mark_it_ends_with(mark: str) -> None:
    error = DraemError("unknown", found=f"the end{mark}", hint="Did you mean `epochs`?")
    assert str(error) == f"unknown. Found the end{mark} Did you mean `epochs`?"


ACTING = "".join(map(chr, [0, 7, 8, 9, 13, 27, 127, 0x9B, 0x202E, 0x2066, 0xFEFF, 0xDC9B]))


def test_characters_that_act_on_a_terminal_are_escaped() -> None:
    assert shown("\x1b[31m\x9b2Jred\u202e\n\udcff") == r"\x1b[31m\x9b2Jred\u202e\n\udcff"
    assert shown("a\nb\x1b", lines=True) == "a\nb\\x1b"
    for text in ("plain", "Maß 名 \U0001f600 e\u0301", r"C:\new\x1b"):
        assert shown(text) == text
    for character in ACTING:
        assert shown(character).isascii()
        assert shown(character).isprintable()


def test_every_part_of_an_error_is_escaped() -> None:
    error = InputError(ACTING, path=f"a{ACTING}\nb", expected=ACTING, found=ACTING, hint=ACTING)
    assert str(error).isascii()
    assert str(error).isprintable()
    assert error.path == Path(f"a{ACTING}\nb")


def test_a_list_of_problems_stands_on_lines_of_its_own() -> None:
    problems = [ImageError("is a folder", path=name) for name in ("a.png", "b.png")]
    error = DatasetError(
        f"2 images cannot be read:\n{list_problems(problems)}\n", path="set", hint="Remove them"
    )
    assert str(error).splitlines() == [
        "set: 2 images cannot be read:",
        "  a.png: is a folder.",
        "  b.png: is a folder.",
        "Remove them.",
    ]


def test_the_parts_stay_available() -> None:
    error = InputError("wrong", path="x", expected="this", found="that", hint="change it")
    assert (error.problem, error.path, error.expected, error.found, error.hint) == (
        "wrong",
        Path("x"),
        "this",
        "that",
        "change it",
    )


@pytest.mark.parametrize("kind", all_kinds())
def test_errors_survive_pickling(kind: type[DraemError]) -> None:
    error = kind("wrong", path="x/y", expected="this", found="that", hint="change it")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    parents: list[str] = []
    edges = set()
    for branch, name in drawn:
        depth = len(branch) // 4
        parents[depth:] = [name]
        edges.add((name, parents[depth - 1] if depth else "Exception"))
    assert edges == {(kind.__name__, kind.__base__.__name__) for kind in all_kinds()}


@pytest.mark.parametrize(("count", "last"), [(1, "  p0."), (3, "  p2."), (5, "  and 2 more")])
def test_a_long_list_of_problems_is_cut(count: int, last: str) -> None:
    lines = list_problems([DraemError(f"p{index}") for index in range(count)], limit=3).split("\n")
    assert lines[:1] == ["  p0."]
    assert lines[-1] == last
    assert len(lines) == min(count, 4)
