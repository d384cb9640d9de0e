"""Every entrypoint limits the spinning of OpenMP's threads before torch loads its runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marigold_rec.waiting_threads import SPIN_COUNT, limit_spinning

_ROOT = Path(__file__).resolve().parents[1]
_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

# Runs a program up to its first import of torch, and says what the environment holds by then.
_UNTIL_TORCH = """
import os, runpy, sys
from importlib.abc import MetaPathFinder

class Until(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            print("torch with", os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Until())
program, *rest = sys.argv[1:]
sys.argv = [program, *rest]
if program.endswith(".py"):
    sys.path[0] = os.path.dirname(program)
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def _run(*arguments: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    ended = subprocess.run(
        [sys.executable, *arguments],
        env=environment | {"PYTHONPATH": str(_ROOT)} | variables,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "program",
    [
        ("launch/train.py", "--config", "configs/ctr_cvr.yaml"),
        ("launch/evaluate.py", "--checkpoint", "nowhere", "--out", "nowhere"),
        ("launch/export.py", "--checkpoint", "nowhere", "--out", "nowhere"),
        ("marigold_rec.serving", "nowhere", "--data", "nowhere", "--out", "nowhere.parquet"),
    ],
    ids=lambda program: program[0],
)
def test_an_entrypoint_limits_it_before_torch(program: tuple[str, ...]) -> None:
    assert f"torch with {SPIN_COUNT}\n" in _run("-c", _UNTIL_TORCH, *program)


@pytest.mark.parametrize("module", ["jobs.nightly.run", "launch.study"])
def test_children_of_nights_and_studies_inherit_it(module: str) -> None:
    """These start programs of their own, some of which are not ours: torchrun, a launcher."""
    said = _run("-c", f"import {module}, os; print(os.environ['GOMP_SPINCOUNT'])")
    assert said == f"{SPIN_COUNT}\n"


def test_torchs_own_runtime_takes_it() -> None:
    said = _run("-c", "import marigold_rec, torch", OMP_DISPLAY_ENV="verbose")
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in said


@pytest.mark.parametrize("name", _VARIABLES)
def test_what_the_user_has_set_stays(name: str) -> None:
    environment = {name: "of the user"}
    limit_spinning(environment)
    assert environment == {name: "of the user"}
