"""Count, mean, spread and ends of a stream of numbers, exact and without the numbers."""

from __future__ import annotations

import math

import numpy as np


class Moments:
    """Pieces are joined as by Chan, Golub and LeVeque (1979): no difference of large sums."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0
        self.least = math.inf
        self.greatest = -math.inf

    def add(self, values: np.ndarray) -> None:
        """float64, all finite."""
        if len(values) == 0:
            return
        mean = float(values.mean())
        total = self.count + len(values)
        shift = mean - self.mean
        self._squares += float(np.square(values - mean).sum())
        self._squares += shift * shift * self.count * len(values) / total
        self.mean += shift * len(values) / total
        self.count = total
        self.least = min(self.least, float(values.min()))
        self.greatest = max(self.greatest, float(values.max()))

    @property
    def std(self) -> float:
        return math.sqrt(self._squares / self.count) if self.count else 0.0
