"""Describes the machine and the code of a study, and shares the cores between its runs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# glibc gives large blocks back to the kernel at once, and faults them in again at the next step.
_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def num_cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def default_jobs(ranks: int) -> int:
    return max(1, num_cores() // ranks)


def threads_per_rank(jobs: int, ranks: int) -> int:
    """Returns how many threads each rank may have, so that all runs together fit the cores.

    More threads than cores make every run wait for the others at each operation: two runs of two
    threads on two cores were measured at 20 times the step time.
    """
    return max(1, num_cores() // (jobs * ranks))


def run_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns `environment` for a run beside others; variables that the user has set stay."""
    return {"OMP_NUM_THREADS": "1", **_ALLOCATOR, **environment}


def describe_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {num_cores()} cores"


def commit() -> str | None:
    """Returns the code's commit, with `+` when files differ from it; None outside of git."""
    head = _git("rev-parse", "--short=10", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return None if head is None else head + ("+" if changes else "")


def _git(*arguments: str) -> str | None:
    try:
        ended = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None
