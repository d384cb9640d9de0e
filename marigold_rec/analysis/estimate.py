"""A figure with what each cluster of rows contributes to it: intervals and paired comparisons.

A metric is a function F of the rows' weights. The influence of a cluster (the rows of one user) is
sum over its rows of w dF/dw: to first order, what F changes by when the cluster is seen once more.
The sum of the squared influences is the variance of F under resampling of whole clusters (the
infinitesimal jackknife: Efron 1982; for the AUC it is DeLong's estimate, clustered as by Obuchowski
1997), without a single replicate.

Shapes: N rows, n of them in a chunk, C clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

from marigold_rec.analysis.rows import Float64s, Rows
from marigold_rec.metrics import Scale

Complex128s = NDArray[np.complex128]

_ROUNDING = 1e-12
"""A standard error below this share of its figure is what float64 left of an exact 0."""


@dataclass(frozen=True)
class Estimate:
    """A metric's value over some rows."""

    value: float | None
    """None: there is none, see `reason`."""
    influence_C: Float64s | None = None
    """Per cluster, in the order of their numbers (`Rows.user_N`; each row where there are no
    users). None: the metric is not smooth in the weights, and has no interval."""
    reason: str | None = None


@dataclass(frozen=True)
class Difference:
    """Of two estimates over the same clusters: new - old."""

    delta: float
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, of no difference."""


class ClusterSums:
    """Sums of rows by cluster: `np.bincount` in place, so that rows can come in chunks."""

    def __init__(self, rows: Rows, num_clusters: int | None = None) -> None:
        """`num_clusters` (default: the largest number of a user + 1): some may have no row."""
        self._user_N = rows.user_N
        if num_clusters is None:
            users = rows.user_N
            num_clusters = len(rows) if users is None else int(users.max(initial=-1)) + 1
        elif rows.user_N is None and num_clusters != len(rows):
            raise ValueError(
                f"without users each of the {len(rows)} rows is a cluster; found num_clusters = "
                f"{num_clusters}: number the rows as users before taking some of them"
            )
        self.num_clusters = num_clusters

    def zeros(self) -> Float64s:
        return np.zeros(self.num_clusters)

    def of(self, rows_n: slice | NDArray[Any]) -> slice | NDArray[Any]:
        """The clusters of these rows, for `add`."""
        return rows_n if self._user_N is None else self._user_N[rows_n]

    def add(self, sums_C: Float64s, of_n: slice | NDArray[Any], values_n: Float64s) -> None:
        """Adds the rows' values to the sums of their clusters, see `of`."""
        if isinstance(of_n, slice):
            sums_C[of_n] += values_n
        else:
            np.add.at(sums_C, of_n, values_n)

    def pairs(self) -> Complex128s:
        """Two sums of each cluster, as one complex number, see `add_pairs`."""
        return np.zeros(self.num_clusters, np.complex128)

    def add_pairs(
        self, sums_C: Complex128s, of_n: slice | NDArray[Any], first_n: Float64s, second_n: Float64s
    ) -> None:
        """As two calls of `add`, but the memory of a cluster is waited for once."""
        values_n = np.empty(len(first_n), np.complex128)
        values_n.real, values_n.imag = first_n, second_n
        if isinstance(of_n, slice):
            sums_C[of_n] += values_n
        else:
            np.add.at(sums_C, of_n, values_n)


def weights(rows: Rows, which_n: slice | NDArray[Any]) -> Float64s:
    """float64 [n]; `Rows.weights` of some rows."""
    if rows.weight_N is not None:
        return rows.weight_N[which_n].astype(np.float64)
    return np.ones(which_n.stop - which_n.start if isinstance(which_n, slice) else len(which_n))


def weighted(rows: Rows, part: slice, values_n: Float64s) -> Float64s:
    """The values of these rows, times their weights; may be the same array."""
    return values_n if rows.weight_N is None else values_n * rows.weight_N[part]


def standard_error(influence_C: Float64s) -> float | None:
    """Root of the sum of the squared influences, times G / (G - 1) for the small sample.

    G counts the clusters whose influence is not 0: those without a row have 0, and a cluster with
    rows that has 0 exactly is taken for one of them, which only widens the error. None below two:
    one cluster says nothing of how clusters differ.
    """
    num_clusters = int(np.count_nonzero(influence_C))
    if num_clusters < 2:
        return None
    variance = float(np.dot(influence_C, influence_C)) * num_clusters / (num_clusters - 1)
    return math.sqrt(variance)


def interval(
    value: float, se: float | None, scale: Scale, confidence: float
) -> tuple[float, float] | None:
    """(low, high), symmetric on the scale, by the delta method.

    None where the first order says nothing: no standard error or one of 0 (an AUC of constant
    scores), or a value at the end of its scale (an AUC of 1, an MAE of 0): [1, 1] from three rows
    would look like certainty.
    """
    if se is None or se <= _ROUNDING * abs(value):
        return None
    half = float(ndtri(0.5 + confidence / 2)) * se
    if scale == "plain":
        return value - half, value + half
    if scale == "log":
        if value <= 0.0:
            return None
        return value * math.exp(-half / value), value * math.exp(half / value)
    if not 0.0 < value < 1.0:
        return None
    middle, half = float(logit(value)), half / (value * (1.0 - value))
    return float(expit(middle - half)), float(expit(middle + half))


def difference(new: Estimate, old: Estimate, confidence: float) -> Difference | None:
    """Paired: what both owe to the same clusters cancels. On the plain scale.

    None where one of them has no value. No interval and no p where one has no influence, or where
    the differences do not vary between clusters; but where the values are then equal too (the same
    model twice) the interval is [delta, delta] and p is 1. Raises ValueError for different numbers
    of clusters.
    """
    if new.value is None or old.value is None:
        return None
    delta = new.value - old.value
    if new.influence_C is None or old.influence_C is None:
        return Difference(delta, None, None, None)
    if len(new.influence_C) != len(old.influence_C):
        raise ValueError(
            f"a paired difference needs the same clusters; found {len(new.influence_C)} and "
            f"{len(old.influence_C)}: give num_clusters where some rows are left out"
        )
    rounding = _ROUNDING * max(abs(new.value), abs(old.value))
    se = standard_error(new.influence_C - old.influence_C)
    if se is None or se <= rounding:
        if abs(delta) <= rounding:
            return Difference(delta, delta, delta, 1.0)
        return Difference(delta, None, None, None)
    half = float(ndtri(0.5 + confidence / 2)) * se
    return Difference(delta, delta - half, delta + half, 2.0 * float(ndtr(-abs(delta) / se)))


def detectable_difference(se: float) -> float:
    """The true difference that a two-sided test at 5 % finds in 80 % of the cases."""
    return float(ndtri(0.975) + ndtri(0.80)) * se
