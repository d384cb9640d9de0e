"""Figures within slates, averaged over them: NDCG@k and MRR of a binary task.

A slate is what was shown together (a request, a page); its rows are ranked by score. Rows of equal
scores stand in no order: both figures are the exact expectation over all orders of the tied rows,
so a constant score is as good as chance, neither better nor worse. (For NDCG: McSherry and Najork,
ECIR 2008, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
Scores"; scikit-learn's ndcg_score does the same.)

Only slates with a positive have such figures; `slates_share` says how many do. Each of them counts
once: the weights of rows do not count here, since a rank has none.

Shapes: N rows; S slates; t ties (runs of equal scores in a slate); s slates of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.by_user import no_figure, ratio_of_sums
from marigold_rec.analysis.codes import (
    Codes,
    blocks_of_whole_codes,
    code_keys,
    float_bits,
    num_codes,
    run_starts,
)
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.row_arrays import chunks, empty
from marigold_rec.analysis.rows import Float64s, Rows

_Ints = NDArray[np.int64]


def slate_estimates(
    rows: Rows, k: tuple[int, ...] | None = None, num_users: int | None = None
) -> dict[str, Estimate]:
    """ndcg@k for each `k` (default: the rows' `ndcg_at`), mrr (1 / rank of the first positive),
    slates_share.

    The gain of a positive is 1, its discount 1 / log2(rank + 1). The influence of a slate is that
    of its first row's user (the rows of a slate should all be one user's); where users are not
    known, it stands at its first row. `num_users`: length of the influences where users are known
    (default: the largest number of a user + 1). Memory beyond `rows`: 16 bytes a row, 8 a slate for
    each figure, and the influences.
    """
    k = rows.ndcg_at if k is None else k
    if any(size < 1 for size in k):
        raise ValueError(f"k of ndcg@k must be at least 1; found {k}")
    names = (*(f"ndcg@{size}" for size in k), "mrr", "slates_share")
    if rows.group_N is None:
        return dict.fromkeys(names, Estimate(None, reason="no slate column: set evaluation.group"))
    if (reason := no_figure(rows, 1)) is not None:
        return dict.fromkeys(names, Estimate(None, reason=reason))
    num_slates = num_codes(rows.group_N)
    sums = {name: np.zeros(num_slates) for name in names}
    has_row_S = np.zeros(num_slates)
    for block in blocks_of_whole_codes(_sorted_keys(rows, rows.group_N)):
        slates = _Slates.of(block)
        has_row_S[slates.code_s] = 1.0
        slates = slates.with_positive()
        if len(slates.code_s):
            for size in k:
                sums[f"ndcg@{size}"][slates.code_s] = slates.ndcg(size)
            sums["mrr"][slates.code_s] = slates.reciprocal_rank()
            sums["slates_share"][slates.code_s] = 1.0
    cluster_S, num_clusters = _clusters(rows, rows.group_N, num_users)
    has_positive_S = sums.pop("slates_share")

    def by_cluster(values_S: Float64s) -> Float64s:
        return np.bincount(cluster_S, values_S, num_clusters).astype(np.float64, copy=False)

    estimates = {}
    if has_positive_S.any():
        under_C = by_cluster(has_positive_S)
        for name, values_S in sums.items():
            estimates[name] = ratio_of_sums(by_cluster(values_S), under_C)
    else:
        estimates = dict.fromkeys(sums, Estimate(None, reason="no slate has a positive"))
    share = ratio_of_sums(by_cluster(has_positive_S), by_cluster(has_row_S))
    return estimates | {"slates_share": share}


def _sorted_keys(rows: Rows, group_N: Codes) -> NDArray[np.uint64]:
    """slate << 32 | score, falling | is negative: a slate's ranking from its first place on."""
    keys = empty(len(rows), np.uint64)
    for part in chunks(len(rows)):
        low = float_bits(rows.score_N[part])
        low <<= np.uint32(1)
        low |= rows.label_N[part] != 0
        keys[part] = code_keys(group_N[part], np.invert(low, out=low))
    keys.sort()
    return keys


def _clusters(rows: Rows, group_N: Codes, num_users: int | None) -> tuple[NDArray[np.intp], int]:
    """(the cluster of each slate, number of clusters); slates without rows: cluster 0."""
    first_S = np.full(num_codes(group_N), len(rows), np.intp)
    for part in chunks(len(rows)):
        np.minimum.at(first_S, group_N[part], np.arange(part.start, part.stop))
    first_S[first_S == len(rows)] = 0
    if rows.user_N is None:
        return first_S, len(rows)
    num_users = num_codes(rows.user_N) if num_users is None else num_users
    return rows.user_N[first_S].astype(np.intp), num_users


@dataclass(frozen=True)
class _Slates:
    """The ties of whole slates, from the first place of each slate on."""

    code_s: Codes
    start_s: NDArray[np.intp]
    """First tie of the slate."""
    before_t: _Ints
    """Rows of the slate in better places than the tie's."""
    rows_t: _Ints
    positives_t: _Ints

    @classmethod
    def of(cls, keys: NDArray[np.uint64]) -> _Slates:
        """Of sorted keys."""
        first_row = run_starts(keys >> np.uint64(1))
        code_t = (keys[first_row] >> np.uint64(32)).astype(np.int32)
        start_s = run_starts(code_t)
        num_ties = np.diff(start_s, append=len(code_t))
        is_positive = (~keys & np.uint64(1)).astype(np.int64)
        return cls(
            code_s=code_t[start_s],
            start_s=start_s,
            before_t=first_row - np.repeat(first_row[start_s], num_ties),
            rows_t=np.diff(first_row, append=len(keys)),
            positives_t=np.add.reduceat(is_positive, first_row),
        )

    def with_positive(self) -> _Slates:
        """These slates only."""
        num_ties = np.diff(self.start_s, append=len(self.rows_t))
        kept_s = self._sums(self.positives_t) > 0
        kept_t = np.repeat(kept_s, num_ties)
        num_ties = num_ties[kept_s]
        return _Slates(
            code_s=self.code_s[kept_s],
            start_s=np.cumsum(num_ties) - num_ties,
            before_t=self.before_t[kept_t],
            rows_t=self.rows_t[kept_t],
            positives_t=self.positives_t[kept_t],
        )

    def ndcg(self, k: int) -> Float64s:
        """[s]. Each place of a tie holds a positive with probability positives / rows."""
        longest = int((self.before_t + self.rows_t).max())
        places = np.arange(1, min(k, longest) + 1)
        discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(places + 1))])
        end_t = np.minimum(self.before_t + self.rows_t, k)
        discount_t = discounts[end_t] - discounts[np.minimum(self.before_t, k)]
        gain_s = self._sums(self.positives_t / self.rows_t * discount_t)
        return gain_s / discounts[np.minimum(self._sums(self.positives_t), k)]

    def reciprocal_rank(self) -> Float64s:
        """[s]. Of the first positive: it is in the first tie that has any."""
        first_s = np.flatnonzero(self.positives_t > 0)
        slate = np.searchsorted(self.start_s, first_s, side="right") - 1
        first_s = first_s[run_starts(slate)]
        return _expected_reciprocal_rank(
            self.before_t[first_s], self.rows_t[first_s], self.positives_t[first_s]
        )

    def _sums(self, values_t: NDArray) -> NDArray:
        return np.add.reduceat(values_t, self.start_s)


def _expected_reciprocal_rank(before_s: _Ints, rows_s: _Ints, positives_s: _Ints) -> Float64s:
    """E[1 / (before + j)] where j is the place of the first positive among the tied rows.

    j has the chance P(no positive in the j-1 places before) * positives / (rows - j + 1). Flat over
    all places of all slates: a loop over places would be as long as the largest tie.
    """
    num_places_s = rows_s - positives_s + 1  # later, some positive must have come
    starts = np.cumsum(num_places_s) - num_places_s
    earlier = np.arange(int(num_places_s.sum())) - np.repeat(starts, num_places_s)
    chance = np.repeat(positives_s, num_places_s) / (np.repeat(rows_s, num_places_s) - earlier)
    # The last place of a slate has chance 1, and nothing comes after it that needs a logarithm.
    log_missed = np.log1p(-np.where(chance < 1, chance, 0.0))
    log_missed_before = np.cumsum(log_missed) - log_missed
    log_missed_before -= np.repeat(log_missed_before[starts], num_places_s)
    place = np.repeat(before_s, num_places_s) + earlier + 1
    return np.add.reduceat(np.exp(log_missed_before) * chance / place, starts)
