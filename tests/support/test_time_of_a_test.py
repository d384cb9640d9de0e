"""All calls of a test share its time; what other threads than the first wait for is no hang."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from tests.support import patience
from tests.support.ranks import RanksHungError, run_ranks


def _works(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_the_calls_of_a_test_share_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TEST_S", 9.0)
    for _ in range(3):
        run_ranks(_works, 1, 0.8)
    with pytest.raises(RanksHungError, match="did not finish in the 9 s of their test"):
        run_ranks(_works, 1, 60.0)


def _works_in_a_thread(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    thread = threading.Thread(target=_works, args=(1.0,))
    thread.start()
    thread.join()


def test_a_thread_that_queues_for_a_cpu_is_no_hang() -> None:
    """As the reader's, for which the first thread waits."""
    cpu = min(os.sched_getaffinity(0))
    command = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", command]) for _ in range(4)]
    try:
        run_ranks(_works_in_a_thread, 1, cpu, timeout_s=3)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
