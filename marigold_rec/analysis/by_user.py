"""Figures within users, averaged over them: GAUC of a binary task, GXAUC of a watch time.

A model that only tells active users from others has a high AUC and ranks nothing for anyone: GAUC
(Zhu et al., KDD 2017, "Optimized Cost per Click in Taobao Display Advertising", eq. 6) compares
only rows of the same user.

Each figure is a ratio of sums over users, sum(a_U) / sum(b_U), so a user's influence is exactly
(a_u - value * b_u) / sum(b_U). A user that is seen twice counts twice, also in a plain mean.

Shapes: N rows; U users, those without rows among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.class_sums import ClassSums
from marigold_rec.analysis.codes import (
    code_keys,
    columns_by_code,
    float_bits,
    num_codes,
    run_starts,
)
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.pairs import pairs_of_rows
from marigold_rec.analysis.rows import Float64s, Rows
from marigold_rec.metrics import computed_by

_LARGEST = float(np.finfo(np.float32).max)

NO_USER = "no user column: set evaluation.user"
NO_ROW = "no observed row with a positive weight"


def gauc_estimates(
    rows: Rows, num_users: int | None = None, *, sums: ClassSums | None = None
) -> dict[str, Estimate]:
    """Of a binary task: gauc, gauc_unweighted, gauc_user_share, gauc_row_share.

    gauc: the AUC within each user (ties half, weighted rows) that has both classes, averaged with
    the weight of the user's rows; gauc_unweighted: each of these users counts once. The shares say
    how many of the users are such, and how much of the rows' weight is theirs.

    `num_users`: length of the influences (default: the largest number of a user + 1). `sums`: of
    these rows, where they are at hand. Memory beyond `rows`: 8 bytes a row, 80 a user.
    """
    names = computed_by(f"{__name__}:gauc_estimates")
    if rows.user_N is None:
        return dict.fromkeys(names, Estimate(None, reason=NO_USER))
    if (reason := no_figure(rows, 1)) is not None:
        return dict.fromkeys(names, Estimate(None, reason=reason))
    if sums is None:
        sums = ClassSums.of(rows, num_users)
    assert sums.auc_C is not None
    has_both_U = ~np.isnan(sums.auc_C)
    auc_U = np.where(has_both_U, sums.auc_C, 0.0)
    counted_U = np.where(has_both_U, sums.weight_C, 0.0)
    none = "no user has both classes"
    return {
        "gauc": ratio_of_sums(auc_U * counted_U, counted_U, none),
        "gauc_unweighted": ratio_of_sums(auc_U, has_both_U, none),
        "gauc_user_share": ratio_of_sums(has_both_U, sums.weight_C > 0),
        "gauc_row_share": ratio_of_sums(counted_U, sums.weight_C),
    }


def gxauc_estimates(rows: Rows, num_users: int | None = None) -> dict[str, Estimate]:
    """Of a watch time: gxauc, the XAUC within each user, averaged with the weight of their rows.

    Over the users with at least two different labels. See `analysis.pairs` for XAUC.

    `num_users`: as of `gauc_estimates`. Memory beyond `rows`: 8 bytes a row, 40 a user.
    """
    if rows.user_N is None:
        return {"gxauc": Estimate(None, reason=NO_USER)}
    if (reason := no_figure(rows, np.inf)) is not None:
        return {"gxauc": Estimate(None, reason=reason)}
    xauc_U = np.zeros(num_codes(rows.user_N) if num_users is None else num_users)
    counted_U = np.zeros(len(xauc_U))
    columns = [rows.score_N, rows.label_N]
    if rows.weight_N is not None:
        columns.append(rows.weight_N)
    for code, score, label, *weights in columns_by_code(rows.user_N, columns):
        starts = run_starts(code)
        lengths = np.diff(starts, append=len(code))
        weight = weights[0].astype(np.float64) if weights else np.ones(len(code))
        weight_sum = np.add.reduceat(weight, starts)
        if weights:
            # Users that weigh little would drown in the rounding of the others' sums.
            weight /= np.repeat(weight_sum, lengths)
        # Ranked by user first, rows of two users are never in the wrong order: only pairs within
        # one are found so.
        rank, rank_of_label = (
            np.unique(code_keys(code, float_bits(values)), return_inverse=True)[1].astype(np.uint32)
            for values in (score, label)
        )
        right, different = pairs_of_rows(rank, rank_of_label, weight if weights else None)
        wrong = np.add.reduceat(weight * (different - right), starts)
        others = np.repeat(np.add.reduceat(weight, starts), lengths)
        others -= np.bincount(rank_of_label, weight)[rank_of_label]
        pairs = np.add.reduceat(weight * others, starts)
        # By the labels, since rounding may leave something of equal weights.
        lowest = np.minimum.reduceat(rank_of_label, starts)
        has_pairs = np.maximum.reduceat(rank_of_label, starts) > lowest
        which = code[starts[has_pairs]]
        xauc_U[which] = 1.0 - wrong[has_pairs] / pairs[has_pairs]
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
