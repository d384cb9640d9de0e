"""Tells processes that hang from processes that are slow because the machine is.

A limit of wall-clock time that is short enough for a hang is too short for a loaded machine. Both
rules here look at the processes' own clocks instead (Linux, /proc):

- idle: all of them together have used next to no CPU for IDLE_S, waited for none, nor for a disk;
- limit: the wall-clock time that is left when the time in which one of them stood in the queue for
  a CPU is taken off. On a quiet machine that is the wall-clock time.

So a rank that waits for ever is noticed IDLE_S after the last thing that happened, and one that
turns in circles at its limit, whatever else runs here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

IDLE_S = 10.0
LIMIT_S = 20.0
MOST_S = 25.0
"""A hang must end a test within 30 s: what a call of run_ranks may ask for at most."""
# A gloo group that waits for nothing wakes up a hundred times a second: below 1 % of a CPU each.
_IDLE_SHARE = 0.05
_LOOK_S = 0.25
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Clocks:
    """Of one process, in seconds."""

    used: float
    """CPU time of all its threads."""
    queued: float
    """How long its main thread could have run, and had no CPU."""
    is_at_disk: bool


class Patience:
    """Asked again and again, says when processes have had their time."""

    def __init__(self, limit_s: float = LIMIT_S, idle_s: float = IDLE_S) -> None:
        self._limit_s, self._idle_s = limit_s, idle_s
        self._started = time.monotonic()
        self._last: dict[int, _Clocks] = {}
        self._queued = 0.0
        self._looked = 0.0
        self._activity: deque[tuple[float, float]] = deque()
        """(when, seconds of CPU used or waited for since the look before)."""

    def verdict(self, pids: Sequence[int]) -> str | None:
        """None: they may go on. Otherwise why not, as the end of a sentence."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return None
        self._looked = now
        found = {pid: clocks for pid in pids if (clocks := _clocks(pid)) is not None}
        queued = used = 0.0
        for pid, clocks in found.items():
            before = self._last.get(pid, _Clocks(0.0, 0.0, False))
            queued += clocks.queued - before.queued
            used += clocks.used - before.used
        has_changed = found.keys() != self._last.keys()  # one has begun or ended
        at_disk = any(clocks.is_at_disk for clocks in found.values())
        self._last = found
        self._queued += queued
        self._activity.append((now, self._idle_s if has_changed or at_disk else used + queued))
        while now - self._activity[0][0] > self._idle_s:
            self._activity.popleft()
        if now - self._started - self._queued > self._limit_s:
            return f"did not finish in {self._limit_s:g} s"
        is_whole = now - self._started > self._idle_s
        if is_whole and sum(s for _, s in self._activity) < _IDLE_SHARE * self._idle_s:
            return f"did not finish, and did nothing for {self._idle_s:g} s"
        return None


@contextmanager
def watched(
    *processes: subprocess.Popen[bytes] | subprocess.Popen[str],
    limit_s: float = 240.0,
    idle_s: float = IDLE_S,
) -> Iterator[None]:
    """Kills these processes and all below them once their patience is over, and fails then."""
    over, verdicts = threading.Event(), list[str]()
    roots = [process.pid for process in processes]

    def watch() -> None:
        patience = Patience(limit_s, idle_s)
        while not over.wait(_LOOK_S):
            if (verdict := patience.verdict(pids := with_children(roots))) is not None:
                verdicts.append(verdict)
                for pid in pids:
                    _kill(pid)
                return

    thread = threading.Thread(target=watch, name="patience", daemon=True)
    thread.start()
    failure: BaseException | None = None
    try:
        yield
    except Exception as error:  # often because of the kill
        failure = error
    finally:
        over.set()
        thread.join()
    if verdicts:
        raise AssertionError(f"{len(processes)} processes: {verdicts[0]}; killed") from failure
    if failure is not None:
        raise failure


def with_children(pids: Sequence[int]) -> list[int]:
    """These processes that are alive, and all that they have started and their children have."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        if (fields := _fields(path)) is not None:
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found: list[int] = []
    to_see = list(pids)
    while to_see:
        pid = to_see.pop()
        found.append(pid)
        to_see += children.get(pid, [])
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _clocks(pid: int) -> _Clocks | None:
    folder = Path(f"/proc/{pid}")
    fields = _fields(folder / "stat")
    if fields is None or fields[0] in "ZX":
        return None
    try:
        queued = int((folder / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # a kernel without it: then the wall clock has to do
        queued = 0.0
    states = (_fields(path) for path in folder.glob("task/*/stat"))
    is_at_disk = any(state is not None and state[0] == "D" for state in states)
    return _Clocks((int(fields[11]) + int(fields[12])) * _TICK_S, queued, is_at_disk)


def _fields(path: Path) -> list[str] | None:
    """What stands behind the name, in brackets, which may hold anything: state, parent, ..."""
    try:
        return path.read_text().rpartition(")")[2].split() or None
    except OSError:
        return None
