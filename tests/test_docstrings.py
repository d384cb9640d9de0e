"""The project speaks in sentences: a docstring does not carry on the name above it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("marigold_rec", "models", "data_pipelines", "jobs", "launch", "benchmarks", "tests")
# "Of now, for a checkpoint.": the name has to be read first.
_FRAGMENT = re.compile(r"(Of|By|As|What|Which|Where)\b")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Not done yet: a folder leaves the list with its last fragment.
_TO_DO = (
    "benchmarks",
    "data_pipelines/arguments.py",
    "data_pipelines/catalog",
    "data_pipelines/inputs",
    "data_pipelines/labels",
    "data_pipelines/order",
    "data_pipelines/preflight",
    "data_pipelines/profile",
    "data_pipelines/reading",
    "data_pipelines/statistics",
    "data_pipelines/synthetic",
    "data_pipelines/validate",
    "marigold_rec/analysis",
    "marigold_rec/axes.py",
    "marigold_rec/balancing",
    "marigold_rec/batch.py",
    "marigold_rec/checkpoint",
    "marigold_rec/config",
    "marigold_rec/contracts.py",
    "marigold_rec/distributed",
    "marigold_rec/gating",
    "marigold_rec/inputs.py",
    "marigold_rec/metrics.py",
    "marigold_rec/network.py",
    "marigold_rec/parquet",
    "marigold_rec/plain_zip.py",
    "marigold_rec/reporting",
    "marigold_rec/serving",
    "marigold_rec/sharding",
    "marigold_rec/training",
    "marigold_rec/transforms",
    "marigold_rec/versions.py",
    "models/encoders",
    "tests/analysis",
    "tests/balancing",
    "tests/checkpoint",
    "tests/config",
    "tests/data_pipelines",
    "tests/distributed",
    "tests/gating",
    "tests/jobs",
    "tests/launch",
    "tests/parquet",
    "tests/reporting",
    "tests/serving",
    "tests/support",
    "tests/test_reliability_page.py",
    "tests/training",
)


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yields (line, docstring) of the module, its classes and its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)) is not None:
            yield getattr(node, "lineno", 1), text


def _fragments(source: str) -> list[int]:
    return [line for line, text in _docstrings(source) if _FRAGMENT.match(text)]


def test_the_lint_sees_a_fragment_of_a_module_a_class_and_a_function() -> None:
    module, a_class = '"""Of it."""\nclass A:\n', '    """What."""\n'
    function = '    def f(self):\n        """Asks, and answers."""\n'
    assert _fragments(module + a_class + function) == [1, 2]
    assert _fragments('def f(self):\n    "By name."\n') == [1]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_begins_with_a_fragment(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if not path.relative_to(ROOT).as_posix().startswith(_TO_DO)
        for line in _fragments(path.read_text(encoding="utf-8"))
    ]
    assert not found, "write a sentence with a verb, that says what it does or is"
