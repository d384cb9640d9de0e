"""The AUC of a yes/no task within each user: a user's rows lie together, and none waits for memory.

Shapes: n rows of whole users, sorted by user and score; u users.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.codes import run_starts
from marigold_rec.analysis.rows import Float64s

_Ints = NDArray[np.intp]


def auc_by_counting(keys: NDArray[np.uint64], starts: _Ints) -> tuple[_Ints, _Ints, Float64s]:
    """(positives, rows, AUC or NaN) [u] of rows that weigh 1; in integers, hence exact.

    `keys`: user << 32 | score | is positive. `starts`: each user's first row.

    Of a positive in place i that is the j-th of the block, i - j negatives are in places before;
    those of other users are taken off, then half of the negatives that are tied with it.
    """
    bounds = np.append(starts, len(keys))
    place = np.flatnonzero((keys & np.uint64(1)).astype(np.bool_))
    first = np.searchsorted(place, bounds)  # each user's first positive
    before = np.concatenate([[0], np.cumsum(place - np.arange(len(place)))])
    num_positive = np.diff(first)
    num_negative = np.diff(bounds) - num_positive
    above = np.diff(before[first]) - num_positive * (starts - first[:-1])
    # A tie of both classes: two neighbours that differ in the last bit only, in one place of it.
    mixed = np.flatnonzero((keys[1:] ^ keys[:-1]) == 1) + 1
    tied_negatives = mixed - np.searchsorted(keys, keys[mixed - 1])
    tied_positives = np.searchsorted(keys, keys[mixed], side="right") - mixed
    user = np.searchsorted(starts, mixed, side="right") - 1
    half = 0.5 * np.bincount(user, tied_negatives * tied_positives, len(starts))
    pairs = num_positive * num_negative
    auc = np.full(len(starts), np.nan)
    np.divide(above - half, pairs, out=auc, where=pairs > 0)
    return num_positive, num_positive + num_negative, auc


def auc_by_user(
    keys: NDArray[np.uint64], positive: Float64s, negative: Float64s
) -> tuple[Float64s, Float64s, Float64s]:
    """(weight of the positives, of the negatives, AUC or NaN) [u] of weighted rows.

    `keys`: user << 32 | bits of the score.
    """
    code = (keys >> np.uint64(32)).astype(np.int32)
    starts = run_starts(code)
    positive_sum = np.add.reduceat(positive, starts)
    negative_sum = np.add.reduceat(negative, starts)
    has_both = (positive_sum > 0) & (negative_sum > 0)
    auc = np.full(len(starts), np.nan)
    if has_both.any():
        kept = np.repeat(has_both, np.diff(starts, append=len(code)))
        auc[has_both] = _auc_of_both_classes(
            keys[kept],
            positive[kept],
            negative[kept],
            positive_sum[has_both],
            negative_sum[has_both],
        )
    return positive_sum, negative_sum, auc


def _auc_of_both_classes(
    keys: NDArray[np.uint64],
    positive: Float64s,
    negative: Float64s,
    positive_sum: Float64s,
    negative_sum: Float64s,
) -> Float64s:
    """Mann-Whitney U of each user, as a share of its pairs; one tie is one run of equal keys.

    In shares of the user's negatives, not in weights: the running sum goes on over all users of the
    block, and those with small weights would drown in its rounding.
    """
    ties = run_starts(keys)
    starts = run_starts((keys[ties] >> np.uint64(32)).astype(np.int32))
    positive_of_tie = np.add.reduceat(positive, ties)
    share_of_tie = np.add.reduceat(negative, ties)
    lengths = np.diff(starts, append=len(ties))
    share_of_tie /= np.repeat(negative_sum, lengths)
    below = np.cumsum(share_of_tie) - share_of_tie
    below -= np.repeat(below[starts], lengths)
    below += 0.5 * share_of_tie
    return np.add.reduceat(positive_of_tie * below, starts) / positive_sum
