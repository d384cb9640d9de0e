"""Spearman's rank correlation of predictions and labels, with its exact derivative in the weights.

A row's rank is the weight of the rows below it and half of the weight of its ties, itself among
them: a row of weight w counts as w rows. Ranks are taken as shares of the total weight W, less 1/2,
so that their weighted sum is 0. A row's weight enters the covariance at the row itself, and through
the ranks of all rows above it: d rank_i / d w_k = (s(k, i) - 1/2 - rank_i) / W, where s(k, i) is 1
for i above k, 1/2 for a tie and 0 below.

Shapes: N rows; _P in the order of the values, t ties (runs of equal values).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.codes import CODE_SHIFT, code_keys, float_bits, run_starts
from marigold_rec.analysis.estimate import ClusterSums, Estimate, weights
from marigold_rec.analysis.row_arrays import chunks
from marigold_rec.analysis.rows import Float64s, Rows


def spearman_estimate(rows: Rows, clusters: ClusterSums) -> Estimate:
    """Labels must not all be equal, values must be >= 0. Memory: about 60 bytes per row."""
    lowest, highest = rows.score_N.min(), rows.score_N.max()
    if lowest == highest:
        return Estimate(None, reason=f"all predictions are {lowest:g} s")
    weight_N = rows.weights
    total = float(weight_N.sum())
    by_score, by_label = _Order.of(rows.score_N), _Order.of(rows.label_N)
    score_N, label_N = by_score.ranks(weight_N), by_label.ranks(weight_N)
    covariance = float((weight_N * score_N * label_N).sum())
    of_scores = float((weight_N * score_N**2).sum())
    of_labels = float((weight_N * label_N**2).sum())
    scale = float(np.sqrt(of_scores * of_labels))
    rho = covariance / scale
    # By the chain rule, each of the three sums in turn; those over the rows above come first.
    derivative_N = by_score.above(weight_N * (label_N / scale - rho / of_scores * score_N))
    derivative_N += by_label.above(weight_N * (score_N / scale - rho / of_labels * label_N))
    derivative_N /= total
    derivative_N += score_N * label_N / scale
    derivative_N -= 0.5 * rho * (score_N**2 / of_scores + label_N**2 / of_labels)
    influence_C = clusters.zeros()
    for part in chunks(len(rows)):
        clusters.add(influence_C, clusters.of(part), weights(rows, part) * derivative_N[part])
    return Estimate(rho, influence_C)


@dataclass(frozen=True)
class _Order:
    """The rows by ascending value."""

    row_P: NDArray[np.uint32]
    start_t: NDArray[np.intp]

    @classmethod
    def of(cls, values_N: NDArray[np.float32]) -> _Order:
        keys = code_keys(float_bits(values_N), np.arange(len(values_N), dtype=np.uint32))
        keys.sort()
        return cls(keys.astype(np.uint32), run_starts(keys >> CODE_SHIFT))

    def ranks(self, weight_N: Float64s) -> Float64s:
        """Each row's rank, as a share of the weight, less 1/2."""
        weight_t = self._by_tie(weight_N)
        middle_t = np.cumsum(weight_t) - 0.5 * weight_t
        return self._by_row(middle_t / weight_t.sum() - 0.5)

    def above(self, values_N: Float64s) -> Float64s:
        """For each row the sum of the values of the rows above, and half of its ties'."""
        value_t = self._by_tie(values_N)
        return self._by_row(value_t.sum() - np.cumsum(value_t) + 0.5 * value_t)

    def _by_tie(self, values_N: Float64s) -> Float64s:
        return np.add.reduceat(values_N[self.row_P], self.start_t)

    def _by_row(self, values_t: Float64s) -> Float64s:
        found_N = np.empty(len(self.row_P))
        lengths_t = np.diff(self.start_t, append=len(self.row_P))
        found_N[self.row_P] = np.repeat(values_t, lengths_t)
        return found_N
