"""How many different values a stream holds, in a few kilobytes.

The k smallest hashes of the values (Bar-Yossef et al., RANDOM 2002, algorithm 1; the estimate is
Beyer et al.'s unbiased one, SIGMOD 2007): were d values spread evenly over [0, 1), the k-th
smallest would lie near k / d. Exact below k values; else 1.6 % standard error for k = 4096.
"""

from __future__ import annotations

import numpy as np

_SPAN = float(2**64)


class DistinctCount:
    def __init__(self, k: int = 4096) -> None:
        self._k = k
        self._smallest = np.empty(0, np.uint64)

    def add(self, hashes: np.ndarray) -> None:
        """`hashes`: uint64, spread evenly, the same for the same value."""
        if len(self._smallest) == self._k:
            # Almost all are above once a few thousand values are known: no sort of the rest.
            hashes = hashes[hashes < self._smallest[-1]]
        if len(hashes):
            self._smallest = np.union1d(self._smallest, hashes)[: self._k]

    @property
    def smallest(self) -> np.ndarray:
        """uint64, rising: the smallest k different hashes, or all."""
        return self._smallest

    @property
    def is_exact(self) -> bool:
        return len(self._smallest) < self._k

    @property
    def count(self) -> int:
        if self.is_exact:
            return len(self._smallest)
        return round((self._k - 1) * _SPAN / float(self._smallest[-1]))
