"""Label kinds and metrics are known in one place each: nothing else tells apart or lists them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.config.tasks import Task
from marigold_rec.metrics import METRICS

ROOT = Path(__file__).resolve().parents[1]
_SOURCES = [
    file
    for package in ("marigold_rec", "jobs", "launch", "data_pipelines", "models")
    for file in (ROOT / package).rglob("*.py")
]
_KINDS_HOME = {"marigold_rec/config/label_kinds.py", "marigold_rec/config/tasks.py"}
_METRICS_HOME = {"marigold_rec/metrics.py"}
_SECTIONS = {section.__name__ for section in get_args(get_args(Task)[0])}


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _dispatches(tree: ast.AST) -> Iterator[int]:
    """Lines that tell label kinds apart: a comparison, a case, a table by kind, isinstance."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                found = {_text(side) for side in (node.left, *node.comparators)}
            case ast.MatchValue():
                found = {_text(node.value)}
            case ast.Dict():
                found = {_text(key) for key in node.keys}
            case ast.Subscript(value=ast.Name(id="Literal")):
                found = {_text(child) for child in ast.walk(node.slice)}
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, kind]):
                names = {child.id for child in ast.walk(kind) if isinstance(child, ast.Name)}
                found = LABEL_KINDS.keys() if names & _SECTIONS else set()
            case _:
                continue
        if found & LABEL_KINDS.keys():
            yield node.lineno if isinstance(node, ast.expr) else node.value.lineno


def _lists(tree: ast.AST) -> Iterator[int]:
    """Lines of a list, set or mapping of two metrics or more."""
    for node in ast.walk(tree):
        match node:
            case ast.Tuple() | ast.List() | ast.Set():
                found = [_text(child) for child in node.elts]
            case ast.Dict():
                found = [_text(key) for key in node.keys]
            case _:
                continue
        if len([name for name in found if name in METRICS]) > 1:
            yield node.lineno


def _computes(file: Path) -> bool:
    """A function that computes metrics says which is which, in a file of the analysis."""
    modules = {metric.function.partition(":")[0] for metric in METRICS.values()}
    return ".".join(file.relative_to(ROOT).with_suffix("").parts) in modules


_Check = Callable[[ast.AST], Iterator[int]]


def _found(check: _Check, files: list[Path]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in check(ast.parse(file.read_text()))
    ]


def test_only_its_home_tells_label_kinds_apart() -> None:
    assert len(_SECTIONS) == len(LABEL_KINDS)
    files = [f for f in _SOURCES if f.relative_to(ROOT).as_posix() not in _KINDS_HOME]
    assert not _found(_dispatches, files)


def test_only_their_home_lists_metrics() -> None:
    files = [
        f
        for f in _SOURCES
        if f.relative_to(ROOT).as_posix() not in _METRICS_HOME and not _computes(f)
    ]
    assert not _found(_lists, files)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (_dispatches, "if task.kind == 'binary': pass"),
        (_dispatches, "x = {'duration': 1}"),
        (_dispatches, "match kind:\n case 'binary': pass"),
        (_dispatches, "kind: Literal['binary', 'other']"),
        (_dispatches, "isinstance(task, tasks | BinaryTask)"),
        (_lists, "names = ('auc', 'x', 'ne')"),
        (_lists, "better = {'auc': 1, 'log_loss': -1}"),
    ],
)
def test_the_checks_see(check: _Check, text: str) -> None:
    assert list(check(ast.parse(text)))
