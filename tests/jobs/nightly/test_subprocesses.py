"""A stage's script: its output is logged, its failure named, and it does not outlive the job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from jobs.nightly.subprocesses import StageFailedError, launcher, run_stage
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.errors import StoppedError


def script(tmp_path: Path, text: str) -> str:
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(text))
    return str(file)  # joined to the project's root, an absolute path stays what it is


def run(tmp_path: Path, text: str, stopped: list[int] | None = None) -> None:
    run_stage(
        "train",
        [sys.executable],
        script(tmp_path, text),
        [],
        log_file=tmp_path / "logs" / "train.log",
        is_stopped=lambda: bool(stopped),
    )


def test_the_output_is_kept(tmp_path: Path) -> None:
    run(tmp_path, "import sys\nprint('one')\nprint('two', file=sys.stderr)")
    text = (tmp_path / "logs" / "train.log").read_text()
    assert "one" in text
    assert "two" in text


def test_an_error_of_ours_keeps_its_code_and_words(tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match=r"train failed: DataError: no rows") as caught:
        run(tmp_path, "print('DataError: no rows')\nraise SystemExit(1)  # as torchrun does")
    assert caught.value.exit_code == 3


def test_another_failure_has_code_one(tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match=r"ended with code -9") as caught:
        run(tmp_path, "import os\nos.kill(os.getpid(), 9)")
    assert caught.value.exit_code == 1
    with pytest.raises(StageFailedError, match=r"KeyError: 'x'"):
        run(tmp_path, "{}['x']")


def test_the_error_of_an_earlier_try_is_not_this_ones(tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match="DataError"):
        run(tmp_path, "print('DataError: then')\nraise SystemExit(1)")
    with pytest.raises(StageFailedError, match="ended with code 7"):
        run(tmp_path, "raise SystemExit(7)")


def test_a_signal_reaches_the_script(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="stage train"):
        run(
            tmp_path,
            """
            import signal, sys, time
            signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
            time.sleep(60)
            """,
            stopped=[signal.SIGTERM],
        )


def test_a_killed_night_leaves_no_script_behind(tmp_path: Path) -> None:
    child = script(tmp_path, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(120)")
    night = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\n"
            "from jobs.nightly.subprocesses import run_stage\n"
            f"run_stage('train', [sys.executable], {child!r}, [],"
            f" log_file=Path({str(tmp_path / 'train.log')!r}), is_stopped=lambda: False)",
        ],
        stderr=subprocess.PIPE,
    )
    with night:
        assert night.stderr is not None
        pid = int(night.stderr.readline())
        os.kill(pid, 0)
        night.kill()
    deadline = time.monotonic() + 20
    while _is_running(pid):
        assert time.monotonic() < deadline, "the script outlived the night"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_users_launcher_is_taken_as_it_is() -> None:
    assert launcher(NightlyConfig(launcher=("srun", "torchrun"))) == ["srun", "torchrun"]
    own = launcher(NightlyConfig(ranks=3), max_restarts=1)
    assert own[own.index("--nproc-per-node") + 1] == "3"
    assert own[own.index("--max-restarts") + 1] == "1"
