"""The server from which tests fork their processes, and what those do first.

It has imported torch, torchrec and what a run needs, so that a process takes tenths of a second
instead of the seconds that the imports take.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

_PRELOAD = [
    "numpy",
    "torch",
    "torch.distributed",
    "torchrec",
    "torchrec.distributed",
    "pyarrow.parquet",
    "pydantic",
    # What a run, torchrun and an evaluation import when they get that far: each rank did, for half
    # a second of CPU time and more.
    "pandas",
    "scipy.sparse",
    "torch.distributed.optim",
    "torch.export._trace",
    "sympy",
    "matplotlib.backends.backend_svg",
    "torch.distributed.run",
    "jobs.training.dry_run",
    "jobs.evaluation.run",
    "jobs.export.run",
    "jobs.nightly.run",
    "jobs.training.run",
    "launch.train",
    "marigold_rec.reporting.page",
]
_PR_SET_PDEATHSIG = 1


def fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def die_with_parent() -> None:
    """A killed pytest takes the server with it, and the server all that it has started."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def redirect_output(path: Path) -> None:
    """All that this process says goes to the end of a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # Under pytest's capture the server may have inherited other objects here.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
