"""The project's own files say the same thing everywhere: versions, packages, scripts, names."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import grimp
import pytest

from marigold_rec import __version__, versions

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("marigold_rec", "models", "data_pipelines", "jobs", "launch")
LONGEST_CHAIN = 15
SCRIPTS = ("launch/setup.sh", "launch/test.sh", "launch/demo.sh", ".ci/run")
VARIANTS = [
    ("cpu", {"torch": versions.TORCH, "fbgemm-gpu-cpu": versions.FBGEMM}),
    (
        "cuda",
        {"torch": versions.TORCH, "fbgemm-gpu": versions.FBGEMM, "torchrec": versions.TORCHREC},
    ),
]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(requirements: list[str]) -> dict[str, str]:
    return dict(requirement.split("==") for requirement in requirements)


@pytest.mark.parametrize(("variant", "expected"), VARIANTS)
def test_the_pins_of_a_variant_are_those_that_the_import_check_accepts(
    variant: str, expected: dict[str, str]
) -> None:
    found = pins(pyproject()["project"]["optional-dependencies"][variant])
    assert found == {name: f"{release}.0" for name, release in expected.items()}
    if variant == "cpu":
        found |= pins(pyproject()["tool"]["marigold"]["cpu-without-dependencies"])
    versions.check_triple(found.get, system="Linux")


def test_every_dependency_has_a_tested_version() -> None:
    lines = (ROOT / "launch/constraints.txt").read_text().splitlines()
    pinned = {_normal(line.split("==")[0]) for line in lines if not line.startswith("#")}
    project = pyproject()["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {_normal(re.split(r"[\[<>=]", requirement)[0]) for requirement in wanted}
    assert names <= pinned
    assert not pinned & {"torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("top", [*PACKAGES, "tests"])
def test_each_folder_with_code_is_a_package(top: str) -> None:
    """A folder without __init__.py is left out of the installed project without a word."""
    folders = {path.parent for path in (ROOT / top).rglob("*.py")}
    missing = [folder for folder in folders if not (folder / "__init__.py").exists()]
    assert missing == []


def test_an_editable_install_puts_the_checkout_on_the_path(tmp_path: Path) -> None:
    """A wheel holds marigold_rec alone (tests/serving/test_wheel.py): jobs and their folders are
    found beside it, however the checkout is installed."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "marigold_rec/__init__.py"):
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "src" / name)
    code = f"from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})"
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "src", check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (pth,) = (name for name in files.namelist() if name.endswith(".pth"))
        assert files.read(pth).decode().strip() == str(tmp_path / "src")


def lines_in_functions(file: Path) -> set[int]:
    """Finds the imports that are not done when the module is imported."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    within = [
        node
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, functions)
        for node in ast.walk(function)
    ]
    return {node.lineno for node in within if isinstance(node, ast.Import | ast.ImportFrom)}


def imports_of_modules() -> dict[str, set[str]]:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        path = ROOT / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        later = lines_in_functions(file)
        found[module] = {
            imported
            for imported in graph.find_modules_directly_imported_by(module)
            for line in graph.get_import_details(importer=module, imported=imported)
            if line["line_number"] not in later
        }
    return found


def longest_chain(imports: dict[str, set[str]]) -> tuple[str, ...]:
    """Goes from importer to imported. There are no circles: import-linter sees to it."""

    @functools.cache
    def chain_from(module: str) -> tuple[str, ...]:
        below = [chain_from(imported) for imported in sorted(imports[module])]
        return (module, *max(below, key=len, default=()))

    return max(map(chain_from, sorted(imports)), key=len)


def test_chains_of_imports_are_short() -> None:
    """Who reads a module has at most this many to read below it, one after the other.

    Where a chain is too long: import from the module that defines a name, not from a package's
    `__init__`; and give the half of a file that many need a file of its own.
    """
    imports = imports_of_modules()
    assert "jobs.training.arguments" in imports["launch.train"]
    assert "jobs.training.run" not in imports["launch.train"], "it is imported within a function"
    chain = longest_chain(imports)
    assert len(chain) <= LONGEST_CHAIN, " -> ".join(chain)


@pytest.mark.parametrize("top", PACKAGES)
def test_no_drawer_without_a_name(top: str) -> None:
    names = {path.stem for path in (ROOT / top).rglob("*")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def public_names() -> list[tuple[str, str]]:
    """(module, name) of the table in docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text.partition("## Public names")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| `([\w.]+)` \|", table, flags=re.MULTILINE)
    return [(module, name) for names, module in rows for name in re.findall(r"`(\w+)`", names)]


def test_the_table_of_public_names_is_read() -> None:
    assert ("marigold_rec.config", "load_config") in public_names()
    assert len(public_names()) > 15


@pytest.mark.parametrize(("module", "name"), public_names())
def test_each_public_name_of_the_architecture_page_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_the_changelog_has_a_place_for_the_next_entry() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_the_dockerfile_copies_only_what_exists_and_is_let_in() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    for copied in re.findall(r"^COPY (.+) \S+$", dockerfile, flags=re.MULTILINE):
        for path in copied.split():
            assert (ROOT / path).exists(), path
            assert path == "." or path.split("/")[0] in let_in, path
    for image in re.findall(r"^FROM (\S+[:@]\S+)", dockerfile, flags=re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+-", image), f"{image}: an exact tag is expected"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_and_stop_at_errors(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=10)


def run_setup(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "launch/setup.sh"), *arguments],
        cwd="/",
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpu",), "setup.sh: unknown argument 'gpu'"),
        (("cpu", "cuda"), "setup.sh: cpu or cuda, not both"),
    ],
)
def test_setup_refuses_what_it_does_not_know(arguments: tuple[str, ...], message: str) -> None:
    result = run_setup(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(message)
    assert "usage: launch/setup.sh [cpu|cuda]" in result.stderr


def test_setup_says_which_python_it_needs(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = run_setup("cpu", PYTHON=str(old), MARIGOLD_VENV=str(tmp_path / "venv"))
    assert result.returncode == 1
    assert f"no suitable Python found (tried: {old})" in result.stderr
    assert "Expected Python 3.11 or 3.12 with its venv module" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_failed_setup_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """A copy of the project asks for a package that cannot exist; no index is asked."""
    for name in ("pyproject.toml", "launch/setup.sh", "launch/constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text.replace('"adjustText>=', '"no-such-package>='))
    result = subprocess.run(
        [str(tmp_path / "launch/setup.sh"), "cpu"],
        env=os.environ | {"PIP_NO_INDEX": "1", "MARIGOLD_VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 1
    assert "FAILED" in result.stdout
    assert "No matching distribution found for no-such-package>=" in result.stderr
    assert not (tmp_path / "venv" / ".marigold-setup").exists()
