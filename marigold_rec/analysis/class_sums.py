"""What the figures of a yes/no task need of each cluster, by one walk over the rows.

The rows are walked user by user, and not as they come: a user's rows then lie together, and its
sums are written once, one after the other, instead of all over the memory.

Shapes: N rows, n of them in a block or a chunk; C clusters, u of them in a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.auc_by_user import auc_by_counting, auc_by_user
from marigold_rec.analysis.codes import (
    CODE_SHIFT,
    Codes,
    blocks_of_whole_codes,
    code_keys,
    columns_by_code,
    float_bits,
    run_starts,
)
from marigold_rec.analysis.estimate import ClusterSums, weights
from marigold_rec.analysis.row_arrays import chunks, empty
from marigold_rec.analysis.rows import Float64s, Rows
from marigold_rec.metrics import LOG_LOSS_CLIP

_IS_POSITIVE = np.uint32(1)


@dataclass(frozen=True)
class ClassSums:
    """Each [C]; sums are weighted."""

    clusters: ClusterSums
    weight_C: Float64s
    """Of all its rows."""
    positive_C: Float64s
    """Of its positives."""
    score_C: Float64s
    loss_C: Float64s
    """Log loss in nats, clipped by LOG_LOSS_CLIP."""
    auc_C: Float64s | None
    """Within the user, ties half; NaN where it has one class only. None: there are no users."""

    @classmethod
    def of(cls, rows: Rows, num_clusters: int | None = None) -> ClassSums:
        """Scores must be in [0, 1]. `num_clusters`: see `ClusterSums`. Memory: 8 bytes a row where
        users are known, 40 a cluster."""
        clusters = ClusterSums(rows, num_clusters)
        weight_C, positive_C, score_C, loss_C = (clusters.zeros() for _ in range(4))
        auc_C = None if rows.user_N is None else np.full(clusters.num_clusters, np.nan)
        if rows.user_N is None:
            blocks = _by_row(rows)
        elif rows.weight_N is None:
            blocks = _counted(rows, rows.user_N)
        else:
            blocks = _weighted(rows, rows.user_N)
        columns = (weight_C, positive_C, score_C, loss_C, auc_C)
        for which, *found in blocks:
            for column_C, values_u in zip(columns, found, strict=True):
                if column_C is not None:
                    column_C[which] = values_u
        return cls(clusters, weight_C, positive_C, score_C, loss_C, auc_C)


_Block = tuple[slice | Codes, Any, Any, Any, Any, Any]
"""(clusters, then what ClassSums has of them, in its order)."""


def _by_row(rows: Rows) -> Iterator[_Block]:
    """Where each row is a cluster."""
    for part in chunks(len(rows)):
        weight_n, is_positive_n = weights(rows, part), rows.label_N[part] != 0
        score_n = rows.score_N[part].astype(np.float64)
        loss_n = _losses(score_n, is_positive_n)
        yield part, weight_n, weight_n * is_positive_n, weight_n * score_n, weight_n * loss_n, None


def _counted(rows: Rows, user_N: Codes) -> Iterator[_Block]:
    """Rows that weigh 1: user, score and label fit into one key, and one sort is nearly all."""
    keys = empty(len(rows), np.uint64)
    for part in chunks(len(rows)):
        low = float_bits(rows.score_N[part])
        low <<= np.uint32(1)
        low |= rows.label_N[part] != 0
        keys[part] = code_keys(user_N[part], low)
    keys.sort()
    for block in blocks_of_whole_codes(keys):
        starts = run_starts((block >> CODE_SHIFT).astype(np.uint32))
        num_positive, num_rows, auc = auc_by_counting(block, starts)
        low = block.astype(np.uint32)
        is_positive_n = (low & _IS_POSITIVE).astype(np.bool_)
        low >>= np.uint32(1)
        score_n = low.view(np.float32).astype(np.float64)
        score = np.add.reduceat(score_n, starts)
        loss = np.add.reduceat(_losses(score_n, is_positive_n), starts)
        user = (block[starts] >> CODE_SHIFT).astype(np.int32)
        yield user, num_rows, num_positive, score, loss, auc


def _weighted(rows: Rows, user_N: Codes) -> Iterator[_Block]:
    assert rows.weight_N is not None
    columns = (rows.score_N, rows.label_N, rows.weight_N)
    for code, score_n, label_n, weight_n in columns_by_code(user_N, columns):
        keys = code_keys(code, float_bits(score_n))
        order = np.argsort(keys, kind="stable")
        weight_n = weight_n[order].astype(np.float64)
        score_n = score_n[order].astype(np.float64)
        is_positive_n = label_n[order] != 0
        positive_n = np.where(is_positive_n, weight_n, 0.0)
        starts = run_starts(code)
        score = np.add.reduceat(weight_n * score_n, starts)
        loss = np.add.reduceat(weight_n * _losses(score_n, is_positive_n), starts)
        positive, negative, auc = auc_by_user(keys[order], positive_n, weight_n - positive_n)
        yield code[starts], positive + negative, positive, score, loss, auc


def _losses(score_n: Float64s, is_positive_n: NDArray[np.bool_]) -> Float64s:
    right_n = np.where(is_positive_n, score_n, 1.0 - score_n)
    np.clip(right_n, LOG_LOSS_CLIP, 1.0 - LOG_LOSS_CLIP, out=right_n)
    np.log(right_n, out=right_n)
    return np.negative(right_n, out=right_n)
