"""Tells processes that hang from processes that are slow because the machine is.

A limit of wall-clock time that is short enough for a hang is too short for a loaded machine. Both
rules here look at the processes' own clocks instead (Linux, /proc):

- idle: all of them together have used next to no CPU for IDLE_S, and have not waited for one most
  of the time, nor for a disk;
- limit: the wall-clock time that is left when the time in which a thread of theirs stood in the
  queue for a CPU is taken off. On a quiet machine that is the wall-clock time. There is one for
  each call, and one for all that a test calls one after the other.

So a rank that waits for ever is noticed IDLE_S after the last thing that happened, and one that
turns in circles at its limit, whatever else runs here.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

IDLE_S = 10.0
LIMIT_S = 20.0
MOST_S = 25.0
"""A hang must end a test within 30 s: what a call of run_ranks may ask for at most."""
TEST_S = 27.0
"""For a test and all its calls, and as much for the fixtures that it sets up."""
# Of a CPU, for all and for each at least: a gloo group that waits for nothing wakes up a hundred
# times a second, a torchrun ten times, which takes about 1 %.
_IDLE_SHARE, _IDLE_SHARE_OF_ONE = 0.05, 0.02
# Who has something to do, and no CPU to do it on, queues all the time. Who only wakes up now and
# then queues, too, on a loaded machine, but less.
_QUEUE_SHARE = 0.5
_LOOK_S = 0.25
_LONGEST_WAIT_S = 2.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class _Process(Protocol):
    """subprocess.Popen, and what else has been started."""

    pid: int


@dataclass(frozen=True)
class _Clocks:
    """Of one process, in seconds."""

    used: float
    """CPU time of all its threads."""
    queued: dict[int, float]
    """By thread: how long it could have run, and had no CPU."""
    is_at_disk: bool


_NOTHING = _Clocks(0.0, {}, False)


class _Test:
    """How long the test that runs now has had, on the clock that stands still in a queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        """With its phase, and empty where no test runs: then there is no limit."""
        self.queued = 0.0
        self._started = time.monotonic()

    def is_over(self, now: float) -> bool:
        return bool(self.name) and now - self._started - self.queued > TEST_S


_test = _Test("")


def _this_test() -> _Test:
    global _test
    name = os.environ.get("PYTEST_CURRENT_TEST", "")
    if name != _test.name:
        _test = _Test(name)
    return _test


class Patience:
    """Asked again and again, says when processes have had their time."""

    def __init__(self, limit_s: float = LIMIT_S, idle_s: float = IDLE_S) -> None:
        self._limit_s, self._idle_s = limit_s, idle_s
        self._test = _this_test() if limit_s <= MOST_S else _Test("")
        self._started = time.monotonic()
        self._last: dict[int, _Clocks] = {}
        self._queued = self._waits = 0.0
        self._looked = self._started
        self._activity: deque[tuple[float, float, float]] = deque()
        """(when, seconds of CPU used, and queued for by a first thread, since the look before)."""

    def verdict(self, pids: Sequence[int]) -> str | None:
        """None: they may go on. Otherwise why not, as the end of a sentence."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return None
        before_s, self._looked = self._looked, now
        found = {pid: clocks for pid in pids if (clocks := _clocks(pid)) is not None}
        used = waited = waited_first = 0.0
        for pid, clocks in found.items():
            before = self._last.get(pid, _NOTHING)
            used += clocks.used - before.used
            for thread, seconds in clocks.queued.items():
                more = seconds - before.queued.get(thread, 0.0)
                waited = max(waited, more)
                if thread == pid:
                    waited_first = max(waited_first, more)
        has_changed = found.keys() != self._last.keys()  # one has begun or ended
        at_disk = any(clocks.is_at_disk for clocks in found.values())
        self._last = found
        self._waits += waited  # counted at its end: it may have been longer than a look ago
        lost = min(self._waits, now - before_s)
        self._waits = min(self._waits - lost, _LONGEST_WAIT_S)
        self._queued += lost
        self._test.queued += lost
        self._activity.append((now, self._idle_s if has_changed or at_disk else used, waited_first))
        while now - self._activity[0][0] > self._idle_s:
            self._activity.popleft()
        if now - self._started - self._queued > self._limit_s:
            return f"did not finish in {self._limit_s:g} s"
        if self._test.is_over(now):
            return f"did not finish in the {TEST_S:g} s of their test"
        is_whole = now - self._started > self._idle_s
        share = max(_IDLE_SHARE, _IDLE_SHARE_OF_ONE * len(found))
        has_worked = sum(used for _, used, _ in self._activity) >= share * self._idle_s
        has_queued = sum(waited for _, _, waited in self._activity) > _QUEUE_SHARE * self._idle_s
        if is_whole and not has_worked and not has_queued:
            return f"did not finish, and did nothing for {self._idle_s:g} s"
        return None


@contextmanager
def watched(
    *processes: _Process,
    limit_s: float = MOST_S,
    idle_s: float = IDLE_S,
) -> Iterator[None]:
    """Kills these processes and all below them once their patience is over, and fails then.

    A limit above MOST_S is for what truly takes long, in a file that docs/reliability.md names.
    """
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
    queued = {}
    for path in folder.glob("task/*/schedstat"):
        with suppress(OSError, IndexError):  # it has ended, or a kernel without it
            queued[int(path.parent.name)] = int(path.read_text().split()[1]) / 1e9
    states = (_fields(path) for path in folder.glob("task/*/stat"))
    is_at_disk = any(state is not None and state[0] == "D" for state in states)
    return _Clocks((int(fields[11]) + int(fields[12])) * _TICK_S, queued, is_at_disk)


def _fields(path: Path) -> list[str] | None:
    """What stands behind the name, in brackets, which may hold anything: state, parent, ..."""
    try:
        return path.read_text().rpartition(")")[2].split() or None
    except OSError:
        return None
