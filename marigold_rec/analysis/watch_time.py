"""The figures of a duration in seconds, each with its exact derivative in the rows' weights.

Shapes: N rows, n of them in a chunk, C clusters.
"""

from __future__ import annotations

import math

import numpy as np

from marigold_rec.analysis.estimate import ClusterSums, Estimate, weights
from marigold_rec.analysis.pairs import pairs_of_rows
from marigold_rec.analysis.row_arrays import chunks
from marigold_rec.analysis.rows import Float64s, Rows
from marigold_rec.analysis.spearman import spearman_estimate
from marigold_rec.metrics import METRICS, computed_by

FIGURES = computed_by(f"{__name__}:watch_time_estimates")

_OF_SPREAD = tuple(name for name in FIGURES if METRICS[name].needs == "spread")


def watch_time_estimates(rows: Rows, num_clusters: int | None = None) -> dict[str, Estimate]:
    """FIGURES of these rows.

    mae_s, rmse_s: seconds. r2_log: 1 - squared error / variance, both of log(1+s). xauc: share of
    the pairs with different labels that the predictions order alike, ties half. spearman: rank
    correlation. An rmse_s of 0 has no derivative, hence no influence.

    `num_clusters`: length of the influences, see ClusterSums. Memory: about 60 bytes per row while
    counting pairs, and 8 per cluster for each of at most seven columns.
    """
    reasons = _reasons(rows)
    if "mae_s" in reasons:
        return {name: Estimate(None, reason=reasons[name]) for name in FIGURES}
    clusters = ClusterSums(rows, num_clusters)
    found = {}
    if "xauc" not in reasons:
        found["xauc"] = _xauc(rows, clusters)
        found["spearman"] = spearman_estimate(rows, clusters)
    weight_C, absolute_C, squared_C = (clusters.zeros() for _ in range(3))
    for part in chunks(len(rows)):
        weight_n, of_n = weights(rows, part), clusters.of(part)
        error_n = np.abs(rows.score_N[part].astype(np.float64) - rows.label_N[part])
        clusters.add(weight_C, of_n, weight_n)
        clusters.add(absolute_C, of_n, weight_n * error_n)
        clusters.add(squared_C, of_n, weight_n * error_n**2)
    total = float(weight_C.sum())
    mae, mse = float(absolute_C.sum()) / total, float(squared_C.sum()) / total
    absolute_C -= mae * weight_C
    absolute_C /= total
    found["mae_s"] = Estimate(mae, absolute_C)
    squared_C -= mse * weight_C
    if mse > 0.0:
        squared_C /= 2.0 * math.sqrt(mse) * total
    found["rmse_s"] = Estimate(math.sqrt(mse), squared_C if mse > 0.0 else None)
    if "r2_log" not in reasons:
        found["r2_log"] = _r2_log(rows, clusters, total)
    return {name: found.get(name) or Estimate(None, reason=reasons[name]) for name in FIGURES}


def _reasons(rows: Rows) -> dict[str, str]:
    if len(rows) == 0:
        return dict.fromkeys(FIGURES, "no observed row with a positive weight")
    num_invalid = len(rows) - int(np.sum((rows.score_N >= 0) & (rows.score_N < np.inf)))
    if num_invalid:
        return dict.fromkeys(FIGURES, f"{num_invalid} predictions are not finite numbers >= 0")
    if rows.label_N.min() == rows.label_N.max():
        return dict.fromkeys(_OF_SPREAD, f"all labels are {rows.label_N[0]:g} s")
    return {}


def _xauc(rows: Rows, clusters: ClusterSums) -> Estimate:
    right_N, different_N = pairs_of_rows(rows.score_N, rows.label_N, rows.weight_N)
    right_C, different_C = clusters.zeros(), clusters.zeros()
    for part in chunks(len(rows)):
        weight_n, of_n = weights(rows, part), clusters.of(part)
        clusters.add(right_C, of_n, weight_n * right_N[part])
        clusters.add(different_C, of_n, weight_n * different_N[part])
    # Both sums see each pair from both sides; a row's derivative is what it sees from its own.
    pairs = 0.5 * float(different_C.sum())
    xauc = 0.5 * float(right_C.sum()) / pairs
    right_C -= xauc * different_C
    right_C /= pairs
    return Estimate(xauc, right_C)


def _r2_log(rows: Rows, clusters: ClusterSums, total: float) -> Estimate:
    label_sum = 0.0
    for part in chunks(len(rows)):
        label_sum += float((weights(rows, part) * _log1p(rows.label_N[part])).sum())
    mean = label_sum / total
    error_C, spread_C = clusters.zeros(), clusters.zeros()
    for part in chunks(len(rows)):
        weight_n, of_n = weights(rows, part), clusters.of(part)
        label_n = _log1p(rows.label_N[part])
        clusters.add(error_C, of_n, weight_n * (_log1p(rows.score_N[part]) - label_n) ** 2)
        # The mean moves with the weights too, but at it the spread is smallest: no derivative.
        clusters.add(spread_C, of_n, weight_n * (label_n - mean) ** 2)
    error, spread = float(error_C.sum()), float(spread_C.sum())
    error_C -= error / spread * spread_C
    error_C /= -spread
    return Estimate(1.0 - error / spread, error_C)


def _log1p(seconds_n: np.ndarray) -> Float64s:
    return np.log1p(seconds_n.astype(np.float64))
