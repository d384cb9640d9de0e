"""Breaks what the multi-rank tests test: the last rank sleeps for ever before a collective.

    HANG_AT=5 pytest -p tests.support.hanging tests/training/test_saves.py

Every call of run_ranks meets this at its 5th collective, if it gets so far, and so does every start
of a forked torchrun (HANG_START=1: only starts after the first restart). Once a test of a file has,
the file's others are left out. A table of how long each of those tests took until it failed is
printed at the end, and written to $HANG_TABLE as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support import forked_python, ranks, torchrun
from tests.support.ranks import _Setup

_COLLECTIVES = ("all_reduce", "all_gather", "all_gather_object", "all_gather_into_tensor",
                "all_to_all_single", "barrier", "broadcast", "broadcast_object_list", "gather",
                "gather_object", "scatter_object_list", "reduce_scatter_tensor")  # fmt: skip
_FOLDER = "HANG_FOLDER"
_rank_main, _agent_main = ranks._rank_main, torchrun._agent_main
_become = forked_python._become
_hung: dict[str, dict[str, Any]] = {}


def hanging_rank_main(setup: _Setup, call: bytes) -> None:
    """One rank; the last of several hangs."""
    if setup.world_size > 1 and setup.rank == setup.world_size - 1:
        _install(int(setup.environ["HANG_AT"]), Path(setup.environ[_FOLDER]))
    _rank_main(setup, call)


def hanging_agent_main(*arguments: Any) -> None:
    """One torchrun; the last rank of all its nodes hangs."""
    forked_python._become = _become_hanging
    _agent_main(*arguments)


def _become_hanging(program: list[str], environ: dict[str, str], *settings: Any) -> NoReturn:
    is_last = int(environ["RANK"]) == int(environ["WORLD_SIZE"]) - 1
    start = int(environ["TORCHELASTIC_RESTART_COUNT"])
    if is_last and start >= int(environ.get("HANG_START", "0")):
        _install(int(environ["HANG_AT"]), Path(environ[_FOLDER]))
    _become(program, environ, *settings)


def _install(at: int, folder: Path) -> None:
    import torch.distributed as dist

    calls = itertools.count(1)
    for name in _COLLECTIVES:
        original = getattr(dist, name)

        def hanging(*args: Any, original: Any = original, **kwargs: Any) -> Any:
            if next(calls) == at:
                (folder / "hung").touch()
                time.sleep(10_000)
            return original(*args, **kwargs)

        setattr(dist, name, hanging)


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("HANG_AT", "1")
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="hanging-")
    ranks._rank_main = hanging_rank_main
    torchrun._agent_main = hanging_agent_main
    # So that its seconds count for none of the tests.
    ranks.run_ranks(os.getpid, 1, init_group=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if str(item.path) in _hung:
        pytest.skip("another test of this file has hung")
    (Path(os.environ[_FOLDER]) / "hung").unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if call.when != "teardown" and (Path(os.environ[_FOLDER]) / "hung").exists():
        _hung.setdefault(
            str(item.path),
            {
                "test": item.nodeid,
                "outcome": report.outcome,
                "why": str(call.excinfo.value).split(";")[0] if call.excinfo else "",
                "seconds": round(call.duration, 1),
            },
        )
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for found in _hung.values():
        terminalreporter.write_line(
            f"{found['seconds']:5.1f} s  {found['outcome']}  {found['test']}  {found['why']}"
        )
    if path := os.environ.get("HANG_TABLE"):
        Path(path).write_text(json.dumps([*_hung.values()], indent=1))
