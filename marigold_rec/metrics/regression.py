"""Exact offline metrics of a task in seconds, mergeable over any split of the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marigold_rec.metrics.checked_rows import check_rows
from marigold_rec.metrics.ordered_pairs import xauc
from marigold_rec.metrics.row_counts import RowCounts

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class RegressionMetrics:
    """Figures of one task; None where there is none, with the reason under the field's name."""

    mae_s: float | None
    """Weighted mean absolute error, seconds."""
    rmse_s: float | None
    """Root of the weighted mean squared error, seconds."""
    r2_log: float | None
    """1 - squared error / variance, both of log(1+s); 0 for the best constant, 1 at most."""
    spearman: float | None
    """Rank correlation, -1 to 1; ties share their mean rank, a row of weight w counts w times."""
    xauc: float | None
    """Share of the pairs with different labels that the predictions order alike; 0.5 by chance."""
    rows: int
    """Rows that the figures are taken over."""
    weight_sum: float
    zero_weight_rows: int
    """Rows left out because they weigh nothing."""
    invalid_predictions: int
    """Rows left out because their prediction is no finite number >= 0; then no figure is given."""
    reasons: dict[str, str] = field(default_factory=dict)


class RegressionScores:
    """Accumulates (prediction, label, weight) rows in seconds; exact, independent of their order.

    Any split of the rows into accumulators, merged in any order, gives the same metrics bit for
    bit. Picklable. Memory: 24 bytes per distinct row, and a few times that while sorting.
    """

    def __init__(self) -> None:
        self._rows = RowCounts(num_columns=2)
        self._num_zero_weight = 0
        self._num_invalid = 0

    def add(self, predictions: Any, labels: Any, weights: Any | None = None) -> None:
        """Adds rows: 1-D numpy arrays or CPU tensors without gradient, of one length.

        `predictions` and `labels`: seconds, >= 0, float32. `weights` (default 1): >= 0, float32.
        Observed rows only. Raises TypeError for float64, ValueError for negative or non-finite
        labels or weights and for different lengths; an invalid prediction is counted instead, so
        that no rank raises alone.
        """
        rows = check_rows(predictions, labels, weights, largest_prediction=np.inf)
        self._num_zero_weight += rows.num_zero_weight
        self._num_invalid += rows.num_invalid
        if len(rows.labels):
            # The bits of floats that are not negative rise with their values.
            pairs = rows.predictions.view(np.uint32).astype(np.uint64) << np.uint64(32)
            pairs |= rows.labels.view(np.uint32)
            self._rows.add(pairs, rows.weights.view(np.uint32).astype(np.uint64))

    def merge(self, other: RegressionScores) -> None:
        """Adds all rows of `other`."""
        self._rows.merge(other._rows)
        self._num_zero_weight += other._num_zero_weight
        self._num_invalid += other._num_invalid

    @classmethod
    def merged(cls, parts: Iterable[RegressionScores]) -> Self:
        """A new accumulator with the rows of all `parts`."""
        whole = cls()
        for part in parts:
            whole.merge(part)
        return whole

    def compute(self) -> RegressionMetrics:
        """The metrics of all rows added so far; float64."""
        [pairs, weight_bits], counts = self._rows.sorted()
        prediction = _floats(pairs >> np.uint64(32))
        label = _floats(pairs)
        weight = counts * _floats(weight_bits)
        weight_sum = float(weight.sum())
        reasons = self._reasons(prediction, label)
        mae_s = rmse_s = r2_log = spearman = pairs_in_order = None
        if "mae_s" not in reasons:
            error = prediction - label
            mae_s = float((weight * np.abs(error)).sum()) / weight_sum
            rmse_s = float(np.sqrt((weight * error**2).sum() / weight_sum))
        if "r2_log" not in reasons:
            r2_log = _r2(np.log1p(prediction), np.log1p(label), weight)
        if "spearman" not in reasons:
            spearman = _spearman(prediction, label, weight)
        if "xauc" not in reasons:
            pairs_in_order = xauc(prediction, label, weight)
        return RegressionMetrics(
            mae_s=mae_s,
            rmse_s=rmse_s,
            r2_log=r2_log,
            spearman=spearman,
            xauc=pairs_in_order,
            rows=int(counts.sum()),
            weight_sum=weight_sum,
            zero_weight_rows=self._num_zero_weight,
            invalid_predictions=self._num_invalid,
            reasons=reasons,
        )

    def _reasons(self, prediction: Float64s, label: Float64s) -> dict[str, str]:
        every = ("mae_s", "rmse_s", "r2_log", "spearman", "xauc")
        if self._num_invalid:
            text = f"{self._num_invalid} predictions are not finite numbers >= 0"
            return dict.fromkeys(every, text)
        if len(label) == 0:
            return dict.fromkeys(every, "no observed row with a positive weight")
        if label.min() == label.max():
            text = f"all labels are {label[0]:g} s"
            return dict.fromkeys(("r2_log", "spearman", "xauc"), text)
        if prediction[0] == prediction[-1]:
            return {"spearman": f"all predictions are {prediction[0]:g} s"}
        return {}


def _floats(bits: NDArray[np.uint64]) -> Float64s:
    """The low 32 bits as float32, in float64."""
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def _r2(prediction: Float64s, label: Float64s, weight: Float64s) -> float:
    mean = (weight * label).sum() / weight.sum()
    return float(
        1.0 - (weight * (prediction - label) ** 2).sum() / (weight * (label - mean) ** 2).sum()
    )


def _spearman(prediction: Float64s, label: Float64s, weight: Float64s) -> float:
    """Pearson's correlation of the ranks; the rows come sorted by prediction."""
    order = np.argsort(label, kind="stable")
    label_rank = np.empty_like(label)
    label_rank[order] = _centred_ranks(label[order], weight[order])
    prediction_rank = _centred_ranks(prediction, weight)
    covariance = (weight * prediction_rank * label_rank).sum()
    variances = (weight * prediction_rank**2).sum() * (weight * label_rank**2).sum()
    return float(covariance / np.sqrt(variances))


def _centred_ranks(ascending: Float64s, weight: Float64s) -> Float64s:
    """Mean rank of each row's ties, less the mean of all ranks, as a share of the total weight."""
    starts = np.flatnonzero(np.diff(ascending, prepend=-1.0))
    of_value = np.add.reduceat(weight, starts)
    middle = np.cumsum(of_value) - 0.5 * of_value
    total = of_value.sum()
    return np.repeat(middle / total - 0.5, np.diff(starts, append=len(ascending)))
