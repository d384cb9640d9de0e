"""Limits how long OpenMP's threads spin while they wait: beside other work that costs everything.

Most operators of a step take microseconds, and torch's OpenMP runtime (libgomp, on Linux) lets its
threads spin up to about 3 ms for the next one. Alone that saves wake-ups. Beside a busy process it
burns the time slices that the thread with the work waits for: beside two busy loops a training kept
6 % of its speed. SPIN_COUNT is some hundred microseconds: longer than the gap between two
operators, and short against a time slice (benchmarks/results/busy_neighbour.md).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPIN_COUNT = 10_000


def limit_spinning(environment: MutableMapping[str, str] | None = None) -> None:
    """Sets GOMP_SPINCOUNT for this process and all that it starts; what the user has set stays.

    libgomp reads it when it is loaded, that is when torch is imported: call it before.
    """
    environment = os.environ if environment is None else environment
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
