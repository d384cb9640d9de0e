"""Runs scripts of `launch/` as programs of their own: starts them, stops them, reads their logs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from typing import IO

from jobs.processes.parents import terminate_with_parent

# torchrun gives its ranks 30 s from a signal on to save and exit.
_EXIT_TIMEOUT_S = 60.0
_ERROR = re.compile(
    r"^(?:\[rank\d+\]: ?)?"
    # torchrun's own report, at the end, only says that a rank has failed.
    r"(?!torch\.distributed\.elastic)"
    r"([\w.]*?(\w*(?:Error|Exception))(?:: .*)?)$",
    re.MULTILINE,
)


def torchrun(ranks: int, *, max_restarts: int = 0) -> list[str]:
    """Returns the words of the command line before the script's path."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(ranks), "--max-restarts", str(max_restarts),
    ]  # fmt: skip


def start(
    command: Sequence[str], output: int | IO[bytes], environment: Mapping[str, str] | None = None
) -> Popen[bytes]:
    """Starts a program whose stdout and stderr go to `output`. Call it on the main thread."""
    return Popen(
        command,
        stdin=DEVNULL,
        stdout=output,
        stderr=STDOUT,
        env=environment,
        # Out of reach of the terminal's Ctrl-C, which would reach torchrun and its ranks twice.
        start_new_session=True,
        # A job that is killed must not leave a training behind that writes into its folder.
        preexec_fn=terminate_with_parent(),
    )


def stop(processes: Sequence[Popen[bytes]]) -> None:
    """Asks them to save and exit, and kills those that have not exited after a while."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _EXIT_TIMEOUT_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except TimeoutExpired:
            # The session's group: torchrun and, unless they left it, its ranks.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def first_error(log: str) -> tuple[str, str] | None:
    """Finds the first error that a rank has reported: the name of its class, and the line."""
    found = _ERROR.search(log)
    return None if found is None else (found[2], found[1])
