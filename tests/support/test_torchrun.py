"""Forked torchrun starts and ends its ranks as torchrun does."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.patience import watched
from tests.support.torchrun import Torchrun

_SCRIPT = """
import os, signal, sys, time

start, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]
print(__name__, sys.argv[1:], start, rank, os.environ["WORLD_SIZE"], os.getpid(), flush=True)
{body}
"""


def _run(folder: Path, body: str, restarts: int = 0) -> tuple[Torchrun, Path]:
    script, log = folder / "script.py", folder / "log.txt"
    script.write_text(_SCRIPT.format(body=body))
    options = ("--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}")
    return Torchrun(*options, str(script), "--flag", "x", log=log), log


def _end_of(process: Torchrun) -> int:
    with watched(process, idle_s=3):
        return process.wait()


def test_the_script_is_main_on_each_rank_and_has_its_arguments(tmp_path: Path) -> None:
    process, log = _run(tmp_path, "")
    assert _end_of(process) == 0
    said = sorted(line for line in log.read_text().splitlines() if line.startswith("__main__"))
    assert [line.rpartition(" ")[0] for line in said] == [
        "__main__ ['--flag', 'x'] 0 0 2",
        "__main__ ['--flag', 'x'] 0 1 2",
    ]


@pytest.mark.parametrize(
    ("death", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "Signal 9 (SIGKILL)"),
        ("sys.exit(7)", "exitcode  : 7"),
        ("raise KeyError('which')", "KeyError: 'which'"),
    ],
)
def test_a_rank_that_dies_is_restarted_and_told(tmp_path: Path, death: str, said: str) -> None:
    process, log = _run(tmp_path, f"if rank == '1': {death}", restarts=1)
    assert _end_of(process) == 1
    assert said in log.read_text()
    assert "['--flag', 'x'] 1 1 2" in log.read_text()
    assert "['--flag', 'x'] 2 1 2" not in log.read_text()


def test_a_stop_reaches_the_ranks(tmp_path: Path) -> None:
    waiting = "signal.signal(15, lambda *_: (print('told', rank), sys.exit(0)))\nprint('set', rank)"
    process, log = _run(tmp_path, f"{waiting}\ntime.sleep(60)")
    with watched(process):
        while process.poll() is None and log.read_text().count("set ") < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait() != 0
    assert log.read_text().count("told ") == 2


def test_a_hang_ends_it_and_its_ranks(tmp_path: Path) -> None:
    process, log = _run(tmp_path, "time.sleep(9999)")
    with pytest.raises(AssertionError, match="did nothing for 3 s; killed"):
        _end_of(process)
    said = log.read_text().splitlines()
    ranks = [int(line.split()[-1]) for line in said if line.startswith("__main__")]
    assert len(ranks) == 2
    while any(_runs(rank) for rank in ranks):  # a kill takes its time
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
