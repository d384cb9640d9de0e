"""docs/reliability.md: each test that it names exists, and no fault of the list is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NUM_FAULTS = 24
# A file in backticks, with or without the name of a test in it.
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def _page() -> str:
    return (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


def _named(text: str) -> list[tuple[str, str]]:
    """(file, test or '') in the order of the page, each once."""
    return list(dict.fromkeys(_NAMED.findall(text)))


def _faults(text: str) -> dict[int, list[tuple[str, str]]]:
    """What each row of the table of faults names."""
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", text, flags=re.MULTILINE)
    assert len({number for number, _ in rows}) == len(rows), "a number stands twice"
    return {int(number): _named(row) for number, row in rows}


@cache
def _tests_of(file: str) -> frozenset[str]:
    """Names of the tests in a file, without those that are nested in functions."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    return frozenset(
        node.name
        for body in bodies
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def test_the_page_is_read() -> None:
    text = "| 7 | x | `tests/a/b.py::test_c`, `tests/d.py` |\n| 8 | y | `jobs/training/run.py` |"
    assert _faults(text) == {7: [("tests/a/b.py", "test_c"), ("tests/d.py", "")], 8: []}
    assert len(_named(_page())) > 80


@pytest.mark.parametrize("file", sorted({file for file, _ in _named(_page())}))
def test_each_test_that_the_page_names_exists(file: str) -> None:
    assert (ROOT / file).is_file()
    names = {name for of, name in _named(_page()) if of == file and name}
    assert names - _tests_of(file) == set()


def test_every_fault_is_there_with_a_test() -> None:
    faults = _faults(_page())
    assert list(faults) == list(range(1, NUM_FAULTS + 1))
    assert [number for number, tests in faults.items() if not any(name for _, name in tests)] == []


def test_nothing_that_looks_like_a_test_is_overlooked() -> None:
    """A name in another spelling would escape the check above."""
    loose = re.findall(r"`([^`]*(?:tests/|::)[^`]*)`", _page())
    assert [text for text in loose if not _NAMED.fullmatch(f"`{text}`")] == []
