"""What of a day's rows shows whether another day has the same ones, whatever their order.

Each row is hashed over its columns. The sum and the sum of a second mix of all rows' hashes are the
same for the same rows in any order and any files; the smallest different hashes are a sample of the
different rows that is the same for the same rows (Broder, SEQUENCES 1997).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_pipelines.statistics.distinct import DistinctCount
from marigold_rec.profile import Content
from marigold_rec.transforms.hashing import mix64

NUM_HASHES = 256


class ContentTally:
    def __init__(self) -> None:
        self._sums = np.zeros(2, np.uint64)
        self._rows = 0
        self._distinct = DistinctCount()

    def add(self, columns: Sequence[np.ndarray]) -> None:
        """`columns`: uint64 [rows] each, a hash of each row's value; always in the same order."""
        row_hashes = np.zeros_like(columns[0])
        for column in columns:
            row_hashes = mix64(row_hashes ^ column)
        self._rows += len(row_hashes)
        self._sums += np.array([row_hashes.sum(), mix64(~row_hashes).sum()], np.uint64)
        self._distinct.add(row_hashes)

    def content(self) -> Content:
        return Content(
            digest=f"{self._rows:x}-{int(self._sums[0]):016x}{int(self._sums[1]):016x}",
            distinct=self._distinct.count,
            smallest_hashes=tuple(map(int, self._distinct.smallest[:NUM_HASHES])),
        )
