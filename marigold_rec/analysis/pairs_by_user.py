"""How many pairs of rows of the same user a prediction orders as their label does; O(n log n).

One pass per bit of the labels' ranks within the user, from the highest. A user's rows stand in
groups of equal higher bits, in each of them by prediction. Two ranks differ first at exactly one
bit, and until there both rows are in one group: so every pair is counted once. A pass then splits
its groups by its bit. A user with few rows takes few passes.

Shapes: n rows of whole users, which are numbered 0 .. u-1 and ascend.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.codes import code_keys, run_starts

_Float64s = NDArray[np.float64]
_Ints = NDArray[np.int64]


def pairs_by_user(
    user: NDArray[np.int32],
    prediction_bits: NDArray[np.uint32],
    label_bits: NDArray[np.uint32],
    weight: _Float64s,
) -> tuple[_Float64s, _Float64s]:
    """(weight of the pairs in the right order, ties half; of all pairs with different labels) [u].

    Bits: as `codes.float_bits` gives them. Exact for integer weights whose sum squared stays below
    2**53; else the rounding is about 1e-16 of the weight of all rows given.
    """
    num_users = int(user[-1]) + 1
    rank, pairs = _ranks(user, label_bits, weight)
    prediction_keys = code_keys(user, prediction_bits)
    order = np.argsort(prediction_keys, kind="stable")
    rank, weight, tie = rank[order], weight[order], prediction_keys[order]
    in_order = np.zeros(num_users)
    num_bits = _bit_lengths(np.maximum.reduceat(rank, run_starts(user)))
    for bit in reversed(range(int(num_bits.max(initial=0)))):
        # A user joins with the highest bit of its ranks: before, all its rows are in one group.
        now = np.flatnonzero((num_bits > bit)[user])
        group = (user[now].astype(np.int64) << 32) | (rank[now] >> (bit + 1))
        is_high = ((rank[now] >> bit) & 1).astype(np.bool_)
        below = _low_below(group, tie[now], is_high, weight[now])
        in_order += np.bincount(user[now], weights=weight[now] * below, minlength=num_users)
        moved = now[_split(group, is_high)]
        rank[now], weight[now], tie[now] = rank[moved], weight[moved], tie[moved]
    return in_order, pairs


def _ranks(
    user: NDArray[np.int32], label_bits: NDArray[np.uint32], weight: _Float64s
) -> tuple[_Ints, _Float64s]:
    """(the label's rank among the different labels of its user [n], weight of the pairs [u])."""
    keys = code_keys(user, label_bits)
    order = np.argsort(keys, kind="stable")
    labels = run_starts(keys[order])  # one of each label of each user
    of_label = np.add.reduceat(weight[order], labels)
    starts = run_starts(user[labels])  # users ascend in `order` as they do in `user`
    num_labels = np.diff(starts, append=len(labels))
    rank_of_label = np.arange(len(labels)) - np.repeat(starts, num_labels)
    below = np.cumsum(of_label) - of_label
    below -= np.repeat(below[starts], num_labels)
    rank = np.empty(len(user), np.int64)
    rank[order] = np.repeat(rank_of_label, np.diff(labels, append=len(user)))
    pairs = np.add.reduceat(of_label * below, starts)
    pairs[num_labels == 1] = 0.0  # the subtraction above may leave a rounding error
    return rank, pairs


def _low_below(
    group: _Ints, tie: NDArray[np.uint64], is_high: NDArray[np.bool_], weight: _Float64s
) -> _Float64s:
    """Per high row: low rows of its group with a smaller prediction, half of those with the same.

    0 for low rows. Each group ascends by prediction.
    """
    is_new_group = group[1:] != group[:-1]
    group_start, _ = _bounds(is_new_group)
    tie_start, tie_end = _bounds(is_new_group | (tie[1:] != tie[:-1]))
    before = _sums_before(np.where(is_high, 0.0, weight))
    below = 0.5 * (before[tie_start] + before[tie_end]) - before[group_start]
    return np.where(is_high, below, 0.0)


def _split(group: _Ints, is_high: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The rows in their new order: in each group the low ones, then the high ones."""
    start, end = _bounds(group[1:] != group[:-1])
    row = np.arange(len(group))
    lows = _sums_before((~is_high).astype(np.intp))
    earlier = lows[row] - lows[start]
    order = np.empty_like(row)
    order[np.where(is_high, row + lows[end] - lows[start] - earlier, start + earlier)] = row
    return order


def _bounds(is_new: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(first, one past the last) row of each row's run; `is_new`: does row i+1 begin a run?"""
    starts = np.concatenate([[0], np.flatnonzero(is_new) + 1])
    lengths = np.diff(starts, append=len(is_new) + 1)
    return np.repeat(starts, lengths), np.repeat(starts + lengths, lengths)


def _sums_before(values: NDArray[Any]) -> NDArray[Any]:
    """Sum of the values before each row, and of all of them at the end."""
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])


def _bit_lengths(values: _Ints) -> _Ints:
    """int.bit_length of each."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)
