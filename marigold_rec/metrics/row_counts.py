"""How often each distinct row was seen, in one canonical order: what makes the metrics exact.

A metric computed from the sorted distinct rows and their counts cannot depend on how the rows were
split over ranks or in which order they came: the same sums are taken in the same order, and the
figures are equal bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]

_MIN_PENDING_ROWS = 1 << 20
"""Rows are sorted in lots of at least this many (8 MB a column), or of as many rows as there are
distinct ones already: that sorts each row a bounded number of times, and bounds the memory."""


class RowCounts:
    """A multiset of rows, each of `num_columns` uint64 keys; picklable.

    Memory: 8 * (num_columns + 1) bytes per distinct row, and a few times that while sorting.
    """

    def __init__(self, num_columns: int) -> None:
        self._columns = [np.empty(0, np.uint64) for _ in range(num_columns)]
        self._counts: Counts = np.empty(0, np.int64)
        self._pending: list[list[Keys]] = []
        self._num_pending = 0

    def add(self, *columns: Keys) -> None:
        """Adds rows, one array per column. The arrays are kept: do not write to them afterwards."""
        assert len(columns) == len(self._columns)
        self._pending.append(list(columns))
        self._num_pending += len(columns[0])
        if self._num_pending >= max(_MIN_PENDING_ROWS, len(self._counts)):
            self._sort_pending()

    def merge(self, other: RowCounts) -> None:
        """Adds all rows of `other`."""
        columns, counts = other.sorted()
        self._sort_pending()
        self._join(columns, counts)

    def sorted(self) -> tuple[list[Keys], Counts]:
        """(columns, counts): the distinct rows in ascending order (first column first)."""
        self._sort_pending()
        return self._columns, self._counts

    def _sort_pending(self) -> None:
        if self._num_pending:
            joined = [np.concatenate(parts) for parts in zip(*self._pending, strict=True)]
            self._pending, self._num_pending = [], 0
            self._join(*_distinct(joined, None))

    def _join(self, columns: list[Keys], counts: Counts) -> None:
        if len(self._counts) == 0:
            self._columns, self._counts = columns, counts
        elif len(counts):
            joined = [np.concatenate(c) for c in zip(self._columns, columns, strict=True)]
            self._columns, self._counts = _distinct(joined, np.concatenate([self._counts, counts]))

    def __getstate__(self) -> dict[str, Any]:
        columns, counts = self.sorted()
        # Most counts are small: one byte instead of eight on the wire.
        narrow = np.min_scalar_type(int(counts.max(initial=0)))
        return {"columns": columns, "counts": counts.astype(narrow)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._columns = state["columns"]
        self._counts = state["counts"].astype(np.int64)
        self._pending, self._num_pending = [], 0


def _distinct(columns: list[Keys], counts: Counts | None) -> tuple[list[Keys], Counts]:
    """Rows sorted, equal ones joined; `counts` None: each row once. Not for zero rows."""
    num_rows = len(columns[0])
    varying = [i for i, column in enumerate(columns) if np.any(column != column[0])]
    if counts is None and len(varying) <= 1:
        # Plain values sort about ten times faster than an index by them.
        columns = [np.sort(c) if i in varying else c for i, c in enumerate(columns)]
    else:
        # Stable sorts of numpy find the sorted runs of a merge and only join them.
        keys = [columns[i] for i in reversed(varying)] or [columns[0]]
        order = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys)
        columns = [column[order] for column in columns]
        counts = None if counts is None else counts[order]
    is_first = np.zeros(num_rows, np.bool_)
    is_first[0] = True
    for column in columns:
        is_first[1:] |= column[1:] != column[:-1]
    starts = np.flatnonzero(is_first)
    distinct = [column[starts] for column in columns]
    if counts is None:
        return distinct, np.diff(starts, append=num_rows).astype(np.int64, copy=False)
    return distinct, np.add.reduceat(counts, starts)
