"""Figures within users, averaged over them: GAUC of a binary task, GXAUC of a watch time.

A model that only tells active users from others has a high AUC and ranks nothing for anyone: GAUC
(Zhu et al., KDD 2017, "Optimized Cost per Click in Taobao Display Advertising", eq. 6) compares
only rows of the same user.

Each figure is a ratio of sums over users, sum(a_U) / sum(b_U), so a user's influence is exactly
(a_u - value * b_u) / sum(b_U). A user that is seen twice counts twice, also in a plain mean.

Shapes: N rows; U users, those without rows among them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.codes import (
    CODE_SHIFT,
    Codes,
    blocks_of_whole_codes,
    code_keys,
    float_bits,
    num_codes,
    rows_by_code,
    run_starts,
)
from marigold_rec.analysis.estimate import Estimate, chunks
from marigold_rec.analysis.pairs_by_user import pairs_by_user
from marigold_rec.analysis.rows import Float64s, Rows

_LARGEST = float(np.finfo(np.float32).max)

NO_USER = "no user column: set evaluation.user"
NO_ROW = "no observed row with a positive weight"

_ByUser = tuple[Codes, Float64s | NDArray[np.intp], Float64s]
"""Of the users of a block: (user, weight of its rows, AUC or NaN)."""


def gauc_estimates(rows: Rows, num_users: int | None = None) -> dict[str, Estimate]:
    """Of a binary task: gauc, gauc_unweighted, gauc_user_share, gauc_row_share.

    gauc: the AUC within each user (ties half, weighted rows) that has both classes, averaged with
    the weight of the user's rows; gauc_unweighted: each of these users counts once. The shares say
    how many of the users are such, and how much of the rows' weight is theirs.

    `num_users`: length of the influences (default: the largest number of a user + 1). Memory beyond
    `rows`: 12 bytes a row, 80 a user.
    """
    names = ("gauc", "gauc_unweighted", "gauc_user_share", "gauc_row_share")
    if rows.user_N is None:
        return dict.fromkeys(names, Estimate(None, reason=NO_USER))
    if (reason := no_figure(rows, 1)) is not None:
        return dict.fromkeys(names, Estimate(None, reason=reason))
    weight_U = np.zeros(num_codes(rows.user_N) if num_users is None else num_users)
    auc_U = np.full(len(weight_U), np.nan)
    of_blocks = _counted if rows.weight_N is None else _weighted
    for user, weight, auc in of_blocks(rows, rows.user_N):
        weight_U[user] = weight
        auc_U[user] = auc
    has_both_U = ~np.isnan(auc_U)
    auc_U[~has_both_U] = 0.0
    counted_U = np.where(has_both_U, weight_U, 0.0)
    none = "no user has both classes"
    return {
        "gauc": ratio_of_sums(auc_U * counted_U, counted_U, none),
        "gauc_unweighted": ratio_of_sums(auc_U, has_both_U, none),
        "gauc_user_share": ratio_of_sums(has_both_U, weight_U > 0),
        "gauc_row_share": ratio_of_sums(counted_U, weight_U),
    }


def gxauc_estimates(rows: Rows, num_users: int | None = None) -> dict[str, Estimate]:
    """Of a watch time: gxauc, the XAUC within each user, averaged with the weight of their rows.

    Over the users with at least two different labels. See `metrics.ordered_pairs` for XAUC.

    `num_users`: as of `gauc_estimates`. Memory beyond `rows`: 20 bytes a row, 40 a user.
    """
    if rows.user_N is None:
        return {"gxauc": Estimate(None, reason=NO_USER)}
    if (reason := no_figure(rows, np.inf)) is not None:
        return {"gxauc": Estimate(None, reason=reason)}
    xauc_U = np.zeros(num_codes(rows.user_N) if num_users is None else num_users)
    counted_U = np.zeros(len(xauc_U))
    prediction_bits, label_bits = float_bits(rows.score_N), float_bits(rows.label_N)
    for code, row in rows_by_code(rows.user_N):
        starts = run_starts(code)
        lengths = np.diff(starts, append=len(code))
        weight = np.ones(len(code)) if rows.weight_N is None else rows.weight_N[row].astype(float)
        weight_sum = np.add.reduceat(weight, starts)
        if rows.weight_N is not None:
            # Users that weigh little would drown in the rounding of the others' sums.
            weight /= np.repeat(weight_sum, lengths)
        user = np.repeat(np.arange(len(starts), dtype=np.int32), lengths)
        in_order, pairs = pairs_by_user(user, prediction_bits[row], label_bits[row], weight)
        has_pairs = pairs > 0
        which = code[starts[has_pairs]]
        xauc_U[which] = in_order[has_pairs] / pairs[has_pairs]
        counted_U[which] = weight_sum[has_pairs]
    none = "no user has two different labels"
    return {"gxauc": ratio_of_sums(xauc_U * counted_U, counted_U, none)}


def no_figure(rows: Rows, largest_score: float) -> str | None:
    """Why these rows can have no figure at all; `largest_score`: inf for seconds."""
    if len(rows) == 0:
        return NO_ROW
    if rows.score_N.min() >= 0 and rows.score_N.max() <= min(largest_score, _LARGEST):
        return None
    num_invalid = len(rows) - int(
        np.sum((rows.score_N >= 0) & (rows.score_N <= min(largest_score, _LARGEST)))
    )
    if largest_score == 1:
        return f"{num_invalid} scores are not numbers in [0, 1]"
    return f"{num_invalid} predictions are not finite numbers >= 0"


def ratio_of_sums(
    over_C: Float64s | NDArray[np.bool_],
    under_C: Float64s | NDArray[np.bool_],
    reason: str = NO_ROW,
) -> Estimate:
    """sum(over_C) / sum(under_C) and each cluster's influence; `reason`: if nothing is below."""
    under = float(under_C.sum())
    if under == 0:
        return Estimate(None, reason=reason)
    value = float(over_C.sum()) / under
    influence_C = over_C - np.multiply(under_C, value, dtype=np.float64)
    influence_C /= under
    return Estimate(value, influence_C)


def _counted(rows: Rows, user_N: Codes) -> Iterator[_ByUser]:
    """Rows that weigh 1: user, score and label fit into one key, and one sort is nearly all."""
    keys = np.empty(len(rows), np.uint64)
    for part in chunks(len(rows)):
        low = float_bits(rows.score_N[part])
        low <<= np.uint32(1)
        low |= rows.label_N[part] != 0
        keys[part] = code_keys(user_N[part], low)
    keys.sort()
    for block in blocks_of_whole_codes(keys):
        yield _auc_by_counting(block)


def _auc_by_counting(keys: NDArray[np.uint64]) -> _ByUser:
    """`keys`: user << 32 | score | is positive, sorted; in integers, hence exact.

    Of a positive in place i that is the j-th of the block, i - j negatives are in places before;
    those of other users are taken off, then half of the negatives that are tied with it.
    """
    starts = run_starts((keys >> CODE_SHIFT).astype(np.uint32))
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
    return (keys[starts] >> CODE_SHIFT).astype(np.int32), num_positive + num_negative, auc


def _weighted(rows: Rows, user_N: Codes) -> Iterator[_ByUser]:
    assert rows.weight_N is not None
    for code, row in rows_by_code(user_N):
        keys = code_keys(code, float_bits(rows.score_N[row]))
        order = np.argsort(keys, kind="stable")
        row = row[order]
        weight = rows.weight_N[row].astype(np.float64)
        positive = np.where(rows.label_N[row] != 0, weight, 0.0)
        yield _auc_by_user(keys[order], positive, weight - positive)


def _auc_by_user(keys: NDArray[np.uint64], positive: Float64s, negative: Float64s) -> _ByUser:
    """`keys`: user << 32 | bits of the score, sorted."""
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
    return code[starts], positive_sum + negative_sum, auc


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
