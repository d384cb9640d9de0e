"""When and how often each row of a table was seen: the row history, and what follows from it.

A history follows the published models: tonight's is the base model's and tonight's new days. Days
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

_MOST = np.iinfo(np.uint32).max


@dataclass(frozen=True, eq=False)
class RowHistory:
    last_N: np.ndarray
    """int32: the last day on which the row was seen."""
    seen_N: np.ndarray
    """uint32: how often; it stops at the largest number."""

    @classmethod
    def empty(cls, rows: int) -> RowHistory:
        return cls(np.zeros(rows, np.int32), np.zeros(rows, np.uint32))

    @classmethod
    def read(cls, file: Path) -> RowHistory:
        """Raises CheckpointError."""
        arrays = read_npz(
            file,
            "the history of rows",
            "move it away, and the next night makes it anew from the days of the log",
        )
        if set(arrays) != {"last", "seen"}:
            raise CheckpointError(f"{file}: is not a history of rows; move it away")
        history = cls(arrays["last"], arrays["seen"])
        if (history.last_N.dtype, history.seen_N.dtype) != (np.int32, np.uint32) or not (
            history.last_N.shape == history.seen_N.shape == (history.last_N.size,)
        ):
            raise CheckpointError(f"{file}: is not a history of rows; move it away")
        return history

    def write(self, file: Path) -> None:
        with file.open("wb") as opened:
            np.savez(opened, last=self.last_N, seen=self.seen_N)

    def grown(self, rows: int) -> RowHistory | None:
        """For a table of so many rows, as a warm start carries its values over; None: it does not.

        A row begins as what its ids shared before.
        """
        times, rest = divmod(rows, len(self.last_N))
        if rest or times < 1:
            return None
        if times == 1:
            return self
        return RowHistory(np.tile(self.last_N, times), np.tile(self.seen_N, times))


@dataclass(frozen=True, eq=False)
class Settled:
    """What a night's new days make of a table's rows."""

    history: RowHistory
    """The night's."""
    evicted_N: np.ndarray
    """bool: begin anew before the training."""
    admitted_N: np.ndarray
    """bool: have a row of their own from this training on."""
    facts: dict[str, int]
    """rows, ever_seen, seen (on the new days), evicted, and rare: seen, but not admitted."""


class RowTally:
    """Adds new days to a history. Memory: 20 bytes per row, and the ids that are added at once."""

    def __init__(self, before: RowHistory) -> None:
        self._before = before
        rows = len(before.last_N)
        self._first_N = np.zeros(rows, np.int32)
        self._last_N = np.zeros(rows, np.int32)
        self._seen_N = np.zeros(rows, np.uint32)

    def add(self, day: datetime.date, rows_V: np.ndarray) -> None:
        """In any order of days."""
        # Sorting a piece of ids costs less than a count over all rows of a large table.
        rows, counts = np.unique(rows_V, return_counts=True)
        number = day.toordinal()
        first = self._first_N[rows]
        self._first_N[rows] = np.where(first == 0, number, np.minimum(first, number))
        self._last_N[rows] = np.maximum(self._last_N[rows], number)
        self._seen_N[rows] = _sum(self._seen_N[rows], counts)

    def settle(self, rules: TableLifeCycle, until: datetime.date) -> Settled:
        """`until`: the last of the new days."""
        old_N = self._before.last_N
        evicted_N = np.zeros(len(old_N), bool)
        if rules.evict_after_days is not None:
            # To the day on which it came back: after an outage of the nights all rows would else
            # have been away for the days of the outage, though they were seen on each of them.
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
        return Settled(RowHistory(last_N, seen_N), evicted_N, admitted_N, facts)


def _sum(seen: np.ndarray, more: np.ndarray) -> np.ndarray:
    """uint32 that stops at its largest."""
    return np.minimum(seen.astype(np.uint64) + more.astype(np.uint64), _MOST).astype(np.uint32)
