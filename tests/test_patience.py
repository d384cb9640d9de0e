"""A hang ends a test within 30 s, and a slow machine ends none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from tests.support.launches import PATIENT, AtStep, launch_train
from tests.support.patience import MOST_S, watched, with_children
from tests.support.ranks import RanksHungError, run_ranks
from tests.support.runs import default_setup

ROOT = Path(__file__).resolve().parents[1]


def _sleep(_object: Any = None) -> None:
    time.sleep(10_000)


def _never_comes(rank: int) -> None:
    if dist.get_rank() == rank:
        _sleep()
    dist.barrier()


def _turns_in_circles() -> None:
    while dist.get_rank() == 1:
        pass
    dist.barrier()


def _works(until: float) -> None:
    """Until its own CPU time is so much."""
    while time.process_time() < until:
        pass


def _pauses() -> None:
    for _ in range(6):
        time.sleep(0.5)
        _works(time.process_time() + 0.2)


def test_ranks_that_do_nothing_are_not_waited_for_until_their_limit() -> None:
    with pytest.raises(RanksHungError, match=r"^rank 0, 1 of 2 .*, and did nothing for 2 s; ") as e:
        run_ranks(_never_comes, 2, 1, timeout_s=MOST_S, idle_s=2)
    assert "_sleep" in str(e.value)


def test_a_rank_that_turns_in_circles_is_stopped_at_its_limit() -> None:
    with pytest.raises(RanksHungError, match=r"^rank 0, 1 of 2 did not finish in 3 s; stacks"):
        run_ranks(_turns_in_circles, 2, timeout_s=3)


def test_pauses_are_no_hang() -> None:
    run_ranks(_pauses, 2, timeout_s=MOST_S, idle_s=2)


def _works_on(cpu: int, seconds: float) -> None:
    os.sched_setaffinity(0, {cpu})
    _works(time.process_time() + seconds)


def test_what_a_loaded_machine_takes_does_not_count() -> None:
    """Five others want the same CPU: a second of work takes six or more, and the limit is three."""
    cpu = min(os.sched_getaffinity(0))
    command = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", command]) for _ in range(4)]
    try:
        run_ranks(_works_on, 2, cpu, 1.0, timeout_s=3)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_a_rank_that_hangs_in_a_real_run_is_noticed(tmp_path: Path) -> None:
    """Threads of gloo, of the reader and of the progress bar wake up, but do nothing."""
    config = default_setup(tmp_path, rows=1000)
    hang = AtStep(4, 1, _sleep)
    with pytest.raises(RanksHungError, match="and did nothing for 4 s"):
        launch_train(config, PATIENT, "distributed.step_timeout_s=600", faults=(hang,), idle_s=4)


def test_no_test_may_ask_for_more() -> None:
    with pytest.raises(AssertionError, match="has to end within 30 s"):
        run_ranks(_works, 1, 0.0, timeout_s=31)


_SLEEPING_CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; time.sleep(9999)"])
"""


def _wait_for_both(process: subprocess.Popen[bytes], seen: list[int]) -> None:
    with watched(process, idle_s=2):
        while process.poll() is None:
            seen[:] = max(seen, with_children([process.pid]), key=len)
            time.sleep(0.05)


def test_a_watched_process_goes_with_all_that_it_has_started() -> None:
    process = subprocess.Popen([sys.executable, "-c", _SLEEPING_CHILD])
    seen: list[int] = []
    with pytest.raises(AssertionError, match="did nothing for 2 s; killed"):
        _wait_for_both(process, seen)
    assert len(seen) == 2
    # Nobody may have looked after the orphan yet: then it is a zombie.
    stat = Path(f"/proc/{seen[1]}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


# The families of tests with several ranks: of a save, a run, a stop, a reshard, an evaluation.
_BROKEN = {
    "tests/checkpoint/test_background.py": 3,
    "tests/training/test_saves.py": 40,
    "tests/training/test_evaluation.py": 40,
}


@pytest.mark.slow
@pytest.mark.timeout(300)  # of a loaded machine, which has to import torch again
@pytest.mark.parametrize("file", _BROKEN)
def test_a_broken_feature_ends_its_tests_within_30_s(tmp_path: Path, file: str) -> None:
    """With the last rank asleep before its n-th collective (tests/support/hanging.py)."""
    table = tmp_path / "table.json"
    environment = {
        **os.environ,
        "HANG_AT": str(_BROKEN[file]),
        "HANG_TABLE": str(table),
        "MARIGOLD_SLOW": "0",
    }
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.hanging", "-qx", file]
    subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, env=environment, check=False)
    [hung] = json.loads(table.read_text())
    assert hung["outcome"] == "failed"
    assert "did nothing for 10 s" in hung["why"]
