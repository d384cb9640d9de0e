"""Runs one of our own scripts on all ranks, as a stage of a night, and says why it failed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import BinaryIO

from jobs.processes.machine import ROOT
from jobs.processes.parents import terminate_with_parent
from marigold_rec import errors
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.errors import EXIT_OTHER, MarigoldError, StoppedError

# torchrun gives its ranks 30 s from a signal on to save and leave.
_TO_LEAVE_S = 60.0
_POLL_S = 0.2
# torchrun's own account, at the end, only says that a rank has failed.
_ERROR = re.compile(
    r"^(?:\[rank\d+\]: ?)?(?!torch\.distributed\.elastic)(?:[\w.]+\.)?(\w+Error): (.*)$"
)


class StageFailedError(MarigoldError):
    """A stage's own failure, with its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def launcher(config: NightlyConfig, *, max_restarts: int = 0) -> list[str]:
    """What stands before a script's path to run it on all ranks."""
    if config.launcher:
        return list(config.launcher)
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(config.ranks or num_gpus() or 1),
        "--max-restarts", str(max_restarts),
    ]  # fmt: skip


def num_gpus() -> int:
    """Without torch, which takes seconds to load."""
    if shutil.which("nvidia-smi") is None:
        return 0
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in found.stdout.splitlines())


def run_stage(
    name: str,
    before: Sequence[str],
    script: str,
    arguments: Sequence[str],
    *,
    log_file: Path,
    is_stopped: Callable[[], bool],
) -> None:
    """Runs `script` (a path below the project) to its end; its output is shown, and kept.

    Raises StoppedError after a signal, once the script has saved and left; StageFailedError when
    it fails.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [*before, str(ROOT / script), *arguments]
    with log_file.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        begin = log.tell()
        process = Popen(
            command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            # Out of reach of the terminal's Ctrl-C, which would reach torchrun and its ranks twice.
            start_new_session=True,
            # A killed night must not leave a training behind that works on in its folder.
            preexec_fn=terminate_with_parent(),
        )
        copying = threading.Thread(target=_copy, args=(process, log), daemon=True)
        copying.start()
        _wait(process, is_stopped)
        copying.join(timeout=5.0)
    if is_stopped():
        raise StoppedError(f"stage {name}: stopped by a signal; run the night again to go on")
    if process.returncode != 0:
        raise _failure(name, process.returncode, log_file, begin)


def wait_for_lock(file: Path, patience_s: float) -> None:
    """Until nobody holds it: the ranks of a night that was killed take a moment to leave.

    After `patience_s` it returns all the same; who needs the lock then says what is wrong.
    """
    until = time.monotonic() + patience_s
    while file.exists() and time.monotonic() < until:
        with file.open("a") as handle, contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_POLL_S)


def _copy(process: Popen[bytes], log: BinaryIO) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            with contextlib.suppress(OSError, ValueError):  # nobody reads our output any more
                sys.stderr.write(line.decode(errors="replace"))
                sys.stderr.flush()
            with contextlib.suppress(OSError, ValueError):
                log.write(line)
                log.flush()


def _wait(process: Popen[bytes], is_stopped: Callable[[], bool]) -> None:
    """Until it ends; asks it to after a signal, and makes it after a while."""
    until: float | None = None
    while process.poll() is None:
        time.sleep(_POLL_S)
        if is_stopped() and until is None:
            process.send_signal(signal.SIGTERM)
            until = time.monotonic() + _TO_LEAVE_S
        if until is not None and time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _failure(name: str, code: int, log_file: Path, begin: int) -> StageFailedError:
    """The first error of ours in the log says more than torchrun's account at its end."""
    with log_file.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    found = next((match for match in map(_ERROR.match, lines) if match is not None), None)
    what = f"{found[1]}: {found[2]}" if found else f"ended with code {code}"
    kind = getattr(errors, found[1], None) if found else None
    exit_code = kind.exit_code if isinstance(kind, type) and issubclass(kind, MarigoldError) else 0
    return StageFailedError(f"stage {name} failed: {what}\nsee {log_file}", exit_code or EXIT_OTHER)
