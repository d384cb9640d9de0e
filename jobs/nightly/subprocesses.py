"""Runs a stage of a nightly run: one of our own scripts on all ranks, and why it failed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import PIPE, Popen
from typing import BinaryIO

from jobs.processes.provenance import ROOT
from jobs.processes.torchrun import first_error, start, stop, torchrun
from marigold_rec import errors
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.errors import EXIT_OTHER, MarigoldError, StoppedError

_POLL_S = 0.2


class StageFailedError(MarigoldError):
    """A stage has failed; carries the exit code of its cause."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def launcher(config: NightlyConfig, *, max_restarts: int = 0) -> list[str]:
    """Returns the words of the command line, before the script's path, that run it on all ranks."""
    if config.launcher:
        return list(config.launcher)
    return torchrun(config.ranks or num_gpus() or 1, max_restarts=max_restarts)


def num_gpus() -> int:
    """Counts the GPUs without torch, which takes seconds to import."""
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
    """Runs `script` (a path below the project) to its end; its output is printed and logged.

    Raises StoppedError after a signal, once the script has saved and exited; StageFailedError if it
    fails.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [*before, str(ROOT / script), *arguments]
    with log_file.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        begin = log.tell()
        process = start(command, PIPE)
        copying = threading.Thread(target=_copy, args=(process, log), daemon=True)
        copying.start()
        while process.poll() is None:
            time.sleep(_POLL_S)
            if is_stopped():
                stop([process])
        copying.join(timeout=5.0)
    if is_stopped():
        raise StoppedError(
            f"stage {name}: stopped by a signal; run the same command again to resume"
        )
    if process.returncode != 0:
        raise _failure(name, process.returncode, log_file, begin)


def wait_for_lock(file: Path, patience_s: float) -> None:
    """Waits until the lock is free: the ranks of a killed run take a moment to exit.

    Returns after `patience_s` even if it is not free; the process that needs the lock then fails
    with the reason.
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
            with contextlib.suppress(OSError, ValueError):  # the reader of our output has gone
                sys.stderr.write(line.decode(errors="replace"))
                sys.stderr.flush()
            with contextlib.suppress(OSError, ValueError):
                log.write(line)
                log.flush()


def _failure(name: str, code: int, log_file: Path, begin: int) -> StageFailedError:
    """Makes the error from the first of our errors in the log, which says more than torchrun's
    report at its end."""
    with log_file.open("rb") as file:
        file.seek(begin)
        found = first_error(file.read().decode(errors="replace"))
    what = found[1] if found else f"ended with code {code}"
    kind = getattr(errors, found[0], None) if found else None
    exit_code = kind.exit_code if isinstance(kind, type) and issubclass(kind, MarigoldError) else 0
    return StageFailedError(f"stage {name} failed: {what}\nsee {log_file}", exit_code or EXIT_OTHER)
