"""Shares the machine's cores between runs that go at the same time."""

from __future__ import annotations

import os
from collections.abc import Mapping

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
