"""Nothing is left behind by a kill: ranks leave with torchrun, children with their parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.processes.parents import terminate_with_parent
from tests.support.forking import fork_server
from tests.support.launches import checkpoints, summary
from tests.support.patience import watched, with_children
from tests.support.runs import default_setup
from tests.support.torchrun import Torchrun

# On a loaded machine; by itself it takes about a second.
_SOON_S = 15.0

# A parent that starts one child, says its process id, and waits to be killed. The child says how it
# takes a SIGTERM, and is ready once the file is there.
_PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]]).pid, flush=True)
time.sleep(600)
"""
_CHILD = """
import os, pathlib, signal, sys, time
from jobs.processes.parents import exit_with_torchrun
signal.signal(signal.SIGTERM, {handler})
exit_with_torchrun({to_leave_s})
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def _killed_parent(child: str, ready: Path, **variables: str) -> int:
    """The process id of a child whose parent has just been killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, child, str(ready)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    with process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        while not ready.exists():
            assert _is_running(pid)
            time.sleep(0.05)
        process.kill()
    return pid


@pytest.mark.parametrize(
    "child",
    [
        _CHILD.format(handler="lambda *_: os._exit(143)", to_leave_s=600),
        _CHILD.format(handler="signal.SIG_IGN", to_leave_s=0.2),
    ],
    ids=["that leaves when asked", "that hangs"],
)
def test_a_rank_leaves_with_a_killed_torchrun(tmp_path: Path, child: str) -> None:
    pid = _killed_parent(child, tmp_path / "ready", TORCHELASTIC_RUN_ID="7")
    assert _ends(pid)


def test_a_training_of_a_shell_outlives_the_shell(tmp_path: Path) -> None:
    child = _CHILD.format(handler="signal.SIG_DFL", to_leave_s=0.0)
    pid = _killed_parent(child, tmp_path / "ready")
    time.sleep(1.5)
    assert _is_running(pid)
    os.kill(pid, signal.SIGKILL)


def _ask_too_late(file: Path) -> None:
    request = terminate_with_parent()
    if os.fork() == 0:
        if os.fork() == 0:
            parent = os.getppid()
            while os.getppid() == parent:  # until it is the orphan of a process that is not ours
                time.sleep(0.01)
            file.write_text(str(os.getpid()))
            request()
            time.sleep(600)
        os._exit(0)


def test_a_parent_that_died_before_the_request_counts(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    process = fork_server().Process(target=_ask_too_late, args=(file,))
    process.start()
    process.join()
    while not file.exists() or not file.read_text():
        time.sleep(0.05)
    assert _ends(int(file.read_text()))


# launch/train.py on a forked rank, without the tests' own tie to its torchrun (PR_SET_PDEATHSIG).
_UNTIED = """
import ctypes
from jobs.entrypoint.exit_codes import run_and_exit
from launch.train import main

ctypes.CDLL(None).prctl(1, 0)
run_and_exit(main)
"""


@pytest.mark.slow
def test_a_killed_torchrun_takes_its_ranks_along_and_they_save(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    script, log = tmp_path / "train.py", tmp_path / "log.txt"
    script.write_text(_UNTIED)
    long = ("run.epochs=1000", "checkpoint.every_n_steps=4", "logging.every_n_steps=3")
    options = ("--standalone", "--nproc-per-node=2", str(script))
    process = Torchrun(*options, "--config", str(config), *long, log=log)
    with watched(process):
        while process.poll() is None and not re.search(r"step +9/", log.read_text()):
            time.sleep(0.05)
        ranks = [pid for pid in with_children([process.pid]) if pid != process.pid]
        assert len(ranks) == 2, log.read_text()
        process.kill()
        process.wait()
    have_ended = [_ends(pid) for pid in ranks]
    assert all(have_ended), log.read_text()
    run = tmp_path / "runs/test"
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("stopped", 143)
    assert checkpoints(run)[-1] == f"step-{summary(run)['step']:09d}"


def _ends(pid: int) -> bool:
    """Whether the process ends soon; it is killed otherwise."""
    until = time.monotonic() + _SOON_S
    while _is_running(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.05)
    return True


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
