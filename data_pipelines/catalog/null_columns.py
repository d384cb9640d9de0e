"""Which columns hold no value at all, by the statistics in the footers."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

from marigold_rec.parquet.column_chunks import ColumnChunk


class NullColumns:
    """Candidates, until a file is seen that holds a value of them. Safe in threads.

    In good data the first few files clear every column, and no other footer need be looked at
    chunk by chunk. What is left at the end does not depend on the order of the files.
    """

    def __init__(self, columns: Collection[str]) -> None:
        self._lock = threading.Lock()
        self._candidates = set(columns)

    @property
    def candidates(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._candidates)

    def look(self, groups: Sequence[Sequence[ColumnChunk]]) -> None:
        """Drops the columns that have a value in these row groups, or may have one."""
        for name in self.candidates:
            for group in groups:
                mine = [chunk for chunk in group if chunk.path == chunk.column == name]
                if len(mine) != 1 or mine[0].nulls is None or mine[0].nulls < mine[0].num_values:
                    with self._lock:
                        self._candidates.discard(name)
                    break
