"""How many pairs of rows a prediction orders as their label does: XAUC, exact, in O(n log n).

XAUC (Zhan et al., KDD 2022, "Deconfounding Duration Bias in Watch-time Prediction for Video
Recommendation") is the share of pairs of rows with different labels whose predictions are in the
same order. Here all pairs are counted instead of a sample, a tie of the predictions counts half,
and a row of weight w counts as w rows. For labels of two values it is the AUC.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]
Indices = NDArray[np.intp]


def xauc(prediction: Float64s, label: Float64s, weight: Float64s) -> float:
    """Share of the pairs with different labels in the right order; rows ascend by prediction.

    At least two labels must differ. With integer weights every count is exact while the square of
    their sum stays below 2**53 (94 million rows of weight 1); beyond, and with other weights, it
    has float64's rounding.
    """
    _, rank = np.unique(label, return_inverse=True)
    of_label = np.bincount(rank, weights=weight)
    below = np.cumsum(of_label) - of_label
    pairs = float((of_label * below).sum())
    return _pairs_in_order(prediction, rank, weight) / pairs


def _pairs_in_order(prediction: Float64s, rank: Indices, weight: Float64s) -> float:
    """Weight of the pairs whose `prediction` and `rank` differ in the same direction; ties half.

    One pass per bit of the ranks, from the highest. The rows stand in groups of equal higher bits,
    in each of them by prediction. Two ranks differ first at exactly one bit, and until there both
    rows are in one group: so every pair is counted once. A pass then splits its groups by its bit.
    """
    total = 0.0
    group = np.zeros(len(rank), np.intp)
    for bit in reversed(range(int(rank.max()).bit_length())):
        is_high = ((rank >> bit) & 1).astype(np.bool_)
        is_new_group = group[1:] != group[:-1]
        group_start, group_end = _bounds(is_new_group)
        tie_start, tie_end = _bounds(is_new_group | (prediction[1:] != prediction[:-1]))
        low_before = _sums_before(np.where(is_high, 0.0, weight))
        # Low rows of the group with a smaller prediction, and half of those with the same.
        below = 0.5 * (low_before[tie_start] + low_before[tie_end]) - low_before[group_start]
        total += float((weight * below)[is_high].sum())
        order = _split(is_high, group_start, group_end)
        prediction, rank, weight = prediction[order], rank[order], weight[order]
        group = rank >> bit
    return total


def _split(is_high: NDArray[np.bool_], group_start: Indices, group_end: Indices) -> Indices:
    """The rows in their new order: in each group the low ones, then the high ones.

    A stable sort would do, at several times the cost.
    """
    row = np.arange(len(is_high))
    lows_before = _sums_before((~is_high).astype(np.intp))
    lows_of_group = lows_before[group_end] - lows_before[group_start]
    earlier_lows = lows_before[row] - lows_before[group_start]
    order = np.empty_like(row)
    order[np.where(is_high, row + lows_of_group - earlier_lows, group_start + earlier_lows)] = row
    return order


def _bounds(is_new: NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """(first, one past the last) row of each row's run; `is_new`: does row i+1 begin a run?"""
    starts = np.concatenate([[0], np.flatnonzero(is_new) + 1])
    lengths = np.diff(starts, append=len(is_new) + 1)
    return np.repeat(starts, lengths), np.repeat(starts + lengths, lengths)


def _sums_before(values: NDArray) -> NDArray:
    """Sum of the values before each row, and of all of them at the end."""
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
