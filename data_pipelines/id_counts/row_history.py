"""The row history records when and how often each table row was seen, and decides its life cycle.

A history follows the published models: a run's history is the base model's plus the new days. Days
are `date.toordinal()`; 0 is never.

Shapes: N rows of the table, V ids of some data.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marigold_rec.config.life_cycle import TableLifeCycle
from marigold_rec.errors import CheckpointError
from marigold_rec.transforms.admission import SHARED_ROW
from marigold_rec.transforms.npz import read_npz

_MAX_COUNT = np.iinfo(np.uint32).max


@dataclass(frozen=True, eq=False)
class RowHistory:
    """When and how often each row of a table was seen."""

    last_N: np.ndarray
    """int32: the last day on which the row was seen."""
    seen_N: np.ndarray
    """uint32: how often it was seen, saturating."""

    @classmethod
    def empty(cls, rows: int) -> RowHistory:
        return cls(np.zeros(rows, np.int32), np.zeros(rows, np.uint32))

    @classmethod
    def read(cls, file: Path) -> RowHistory:
        """Reads a history that `write` has written. Raises CheckpointError."""
        arrays = read_npz(
            file,
            "the row history",
            "move it away, and the next nightly run rebuilds it from the days of the log",
        )
        if set(arrays) != {"last", "seen"}:
            raise CheckpointError(f"{file}: is not a row history; move it away")
        history = cls(arrays["last"], arrays["seen"])
        if (history.last_N.dtype, history.seen_N.dtype) != (np.int32, np.uint32) or not (
            history.last_N.shape == history.seen_N.shape == (history.last_N.size,)
        ):
            raise CheckpointError(f"{file}: is not a row history; move it away")
        return history

    def write(self, file: Path) -> None:
        with file.open("wb") as opened:
            np.savez(opened, last=self.last_N, seen=self.seen_N)

    def resize(self, rows: int) -> RowHistory | None:
        """Fits the history to a table of `rows` rows, like a warm start with its values; None if
        the warm start does not keep them.

        A new row starts with the history of the row that its ids shared before.
        """
        times, remainder = divmod(rows, len(self.last_N))
        if remainder or times < 1:
            return None
        if times == 1:
            return self
        return RowHistory(np.tile(self.last_N, times), np.tile(self.seen_N, times))


@dataclass(frozen=True, eq=False)
class LifeCycleDecision:
    """The history of a table after the new days, and which of its rows are evicted and admitted."""

    history: RowHistory
    """The history that includes the new days."""
    evicted_N: np.ndarray
    """bool: reset before the training."""
    admitted_N: np.ndarray
    """bool: their ids have a row of their own from this training on."""
    facts: dict[str, int]
    """rows, ever_seen, seen (on the new days), evicted, and rare: seen, but not admitted."""


class RowCounter:
    """Adds new days to a history. Memory: 20 bytes per row, and the ids that are added at once."""

    def __init__(self, before: RowHistory) -> None:
        self._before = before
        rows = len(before.last_N)
        self._first_N = np.zeros(rows, np.int32)
        self._last_N = np.zeros(rows, np.int32)
        self._seen_N = np.zeros(rows, np.uint32)

    def add(self, day: datetime.date, rows_V: np.ndarray) -> None:
        """Adds the rows [V] that were seen on a day. Days may come in any order."""
        # Sorting a piece of ids costs less than a count over all rows of a large table.
        rows, counts = np.unique(rows_V, return_counts=True)
        number = day.toordinal()
        first = self._first_N[rows]
        self._first_N[rows] = np.where(first == 0, number, np.minimum(first, number))
        self._last_N[rows] = np.maximum(self._last_N[rows], number)
        self._seen_N[rows] = _sum(self._seen_N[rows], counts)

    def decide(self, rules: TableLifeCycle, until: datetime.date) -> LifeCycleDecision:
        """Applies the rules after all days are added. `until`: the last of the new days."""
        old_N = self._before.last_N
        evicted_N = np.zeros(len(old_N), bool)
        if rules.evict_after_days is not None:
            # Counted to the day on which the row was seen again: otherwise, after an outage of the
            # nightly job, all rows would count as unseen during the outage.
            back_N = np.where(self._first_N > 0, self._first_N, until.toordinal())
            evicted_N = (old_N > 0) & (back_N - old_N > rules.evict_after_days)
            if rules.admit_after is not None:
                evicted_N[SHARED_ROW] = False  # in use by rare ids, which are not counted for it
        last_N = np.maximum(self._last_N, np.where(evicted_N, 0, old_N)).astype(np.int32)
        seen_N = _sum(np.where(evicted_N, np.uint32(0), self._before.seen_N), self._seen_N)
        admitted_N = seen_N >= np.uint32(rules.admit_after or 0)
        admitted_N[SHARED_ROW] = True
        facts = {
            "rows": len(old_N),
            "ever_seen": int(np.count_nonzero((old_N > 0) | (self._first_N > 0))),
            "seen": int(np.count_nonzero(self._first_N)),
            "evicted": int(np.count_nonzero(evicted_N)),
            "rare": int(np.count_nonzero(~admitted_N & (last_N > 0))),
        }
        return LifeCycleDecision(RowHistory(last_N, seen_N), evicted_N, admitted_N, facts)


def _sum(seen: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Adds, saturating at the largest uint32."""
    total = seen.astype(np.uint64) + more.astype(np.uint64)
    return np.minimum(total, _MAX_COUNT).astype(np.uint32)
