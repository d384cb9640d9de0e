"""For each row, with how much of the others its prediction agrees: XAUC by row, in O(N log N).

XAUC (Zhan et al., KDD 2022, "Deconfounding Duration Bias in Watch-time Prediction for Video
Recommendation") is the share of pairs of rows with different labels whose predictions are in the
same order. Here all pairs are counted instead of a sample, each row's own since the influence of a
user needs them; a tie of the predictions counts half, and a row of weight w counts as w rows.

Two orders without ties make it simple. P: by prediction, then by label. R: by label, then by
prediction. A row with a lower R and a later P then has a smaller label and a higher prediction,
strictly: a pair in the wrong order, and every such pair is found.

Shapes: N rows; _P in the order P, _R in the order R (so rank_P holds the R of each place).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.rows import Float64s

_LEAF_BITS = 16
_SIGN = np.uint32(0x7FFFFFFF)

Floats = NDArray[np.float32]
Ranks = NDArray[np.uint32]
Weights = NDArray[np.float32 | np.float64]


def pairs_of_rows(
    prediction_N: Floats | Ranks, label_N: Floats | Ranks, weight_N: Weights | None
) -> tuple[Float64s, Float64s]:
    """(right, different): weight of the rows that each row is in the right order with, and of those
    with a different label. Neither contains the row's own weight.

    Values >= 0, or ranks below 2**31; fewer than 2**32 rows. Memory: about 45 bytes per row beside
    the results.
    """
    # Sorting integers that carry a row or a place is several times faster than argsort.
    keys = _sorted(prediction_N.view(np.uint32) & _SIGN, np.arange(len(label_N)))
    row_P = keys.astype(np.uint32)
    tie_P = _first_of_run(_is_new(keys >> np.uint64(32)))
    # By label, then by prediction. The order of rows with equal predictions is not by label yet:
    # sorting their ties by R finds P.
    keys = _sorted(label_N[row_P].view(np.uint32) & _SIGN, np.arange(len(label_N)))
    place_R = keys.astype(np.uint32)
    is_new_label_R = _is_new(keys >> np.uint64(32))
    row_R, tie_R = row_P[place_R], tie_P[place_R]
    del keys, row_P, tie_P, place_R
    rank_P = _sorted(tie_R, np.arange(len(label_N))).astype(np.uint32)

    weight_R = None if weight_N is None else weight_N[row_R]
    wrong_R = _wrong_pairs(rank_P, weight_R)
    del rank_P
    of_tie_R = _weight_of_run(tie_R, weight_R)
    wrong_R += 0.5 * of_tie_R
    del of_tie_R
    cell_R = _first_of_run(is_new_label_R | _is_new(tie_R))
    del tie_R
    wrong_R -= 0.5 * _weight_of_run(cell_R, weight_R)  # equal label and prediction: no pair
    del cell_R
    different_R = _weight_of_run(_first_of_run(is_new_label_R), weight_R)
    total = len(label_N) if weight_N is None else weight_N.sum(dtype=np.float64)
    np.subtract(total, different_R, out=different_R)
    np.subtract(different_R, wrong_R, out=wrong_R)
    right_N = np.empty_like(wrong_R)
    right_N[row_R] = wrong_R
    different_N = wrong_R  # its memory, no longer needed
    different_N[row_R] = different_R
    return right_N, different_N


def _wrong_pairs(rank_P: Ranks, weight_R: Weights | None) -> Float64s:
    """[R]: weight of the rows with a lower rank in a later place, or a higher in an earlier one.

    The second follows from the first: of the rows in an earlier place, some have a lower rank
    (those with a lower rank that are not later), the others a higher one.
    """
    num_rows = len(rank_P)
    # Full groups for the passes below. The additional rows come last in both orders, so they form
    # no wrong pair.
    group = 1 << min(_LEAF_BITS, (num_rows - 1).bit_length())
    padded = -(-num_rows // group) * group
    later_R = np.zeros(padded)
    ranks = np.arange(padded, dtype=np.uint32)
    ranks[:num_rows] = rank_P
    padded_weight_R = None
    if weight_R is not None:
        padded_weight_R = np.zeros(padded, weight_R.dtype)
        padded_weight_R[:num_rows] = weight_R
    _add_lower_and_later(ranks, padded_weight_R, (padded - 1).bit_length(), later_R)
    wrong_R = later_R[:num_rows]
    wrong_R *= 2.0
    if weight_R is None:
        before = np.arange(num_rows)
        wrong_R -= before
        wrong_R[rank_P] += before
    else:
        wrong_R -= _sums_before(weight_R)
        wrong_R[rank_P] += _sums_before(weight_R[rank_P])
    return wrong_R


def _add_lower_and_later(
    ranks: Ranks, weight_R: Weights | None, num_bits: int, later_R: Float64s
) -> None:
    """To each rank the weight of the lower ranks that stand behind it in `ranks`, which it sorts.

    One pass per bit, from the highest. The ranks stand in groups of equal higher bits, each in its
    old order. Two ranks differ first at exactly one bit, and until there both are in one group: so
    every pair is counted once. A pass then splits its groups by its bit. Large groups go one after
    the other until they fit into the processor's cache.
    """
    if num_bits > _LEAF_BITS:
        num_lows = _pass(ranks, weight_R, num_bits - 1, later_R)
        for half in (ranks[:num_lows], ranks[num_lows:]):
            _add_lower_and_later(half, weight_R, num_bits - 1, later_R)
        return
    for bit in reversed(range(num_bits)):
        _pass(ranks, weight_R, bit, later_R)


def _pass(ranks: Ranks, weight_R: Weights | None, bit: int, later_R: Float64s) -> int:
    """Counts the pairs that differ first at `bit` and splits; how many ranks have no such bit.

    Every group has all its 2**bit lows and its highs, except for a single one, which may lack some.
    """
    is_high = (ranks & np.uint32(1 << bit)) != 0
    at = np.flatnonzero(is_high)
    highs, lows = ranks[at], ranks[~is_high]
    index = np.arange(len(at))
    at -= index  # lows before each high, in its group and the groups before
    index >>= bit
    index += 1
    index <<= bit  # lows to the end of its group
    if weight_R is None:
        later_R[highs] += index - at
    else:
        sums = np.zeros(len(lows) + 1)
        np.cumsum(weight_R[lows], dtype=np.float64, out=sums[1:])
        later_R[highs] += sums[index] - sums[at]
    if len(lows) == len(highs):
        halves = ranks.reshape(-1, 2, 1 << bit)
        halves[:, 0], halves[:, 1] = lows.reshape(-1, 1 << bit), highs.reshape(-1, 1 << bit)
    else:
        ranks[: len(lows)], ranks[len(lows) :] = lows, highs
    return len(lows)


def _sorted(high: Ranks, low: NDArray[np.intp]) -> NDArray[np.uint64]:
    keys = high.astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= low.astype(np.uint64)
    keys.sort()
    return keys


def _is_new(values: NDArray[np.uint64] | Ranks) -> NDArray[np.bool_]:
    """Does a run of equal values begin here?"""
    is_new = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_new[1:])
    return is_new


def _first_of_run(is_new: NDArray[np.bool_]) -> Ranks:
    """The first place of each place's run."""
    starts = np.flatnonzero(is_new)
    return np.repeat(starts.astype(np.uint32), np.diff(starts, append=len(is_new)))


def _weight_of_run(first: Ranks, weight: Weights | None) -> Float64s:
    """Of all rows with the same `first`, for each row."""
    return np.bincount(first, weight)[first].astype(np.float64, copy=False)


def _sums_before(weight: Weights) -> Float64s:
    sums = np.cumsum(weight, dtype=np.float64)
    sums -= weight
    return sums
