"""Exact offline metrics of a yes/no task, mergeable over any split of the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marigold_rec.metrics.checked_rows import check_rows
from marigold_rec.metrics.row_counts import RowCounts

LOG_LOSS_CLIP = 2.0**-24
"""Probabilities count as within [clip, 1 - clip] in the log loss: half the step of float32 below 1.
A float32 score of exactly 1 stands for anything closer to 1 than that, and a wrong one costs
16.6 nats instead of infinity. Both ends alike, so that swapping the classes changes nothing."""
LOST_CLASS = (
    "one class weighs so much that the other is lost beside it (beyond 1e16 times): look at the "
    "weights"
)


@dataclass(frozen=True)
class BinaryMetrics:
    """Figures of one task; None where there is none, with the reason under the field's name."""

    auc: float | None
    """Weighted area under the ROC curve; a tie of a positive and a negative counts half."""
    log_loss: float | None
    """Weighted mean cross-entropy, nats per row."""
    ne: float | None
    """Normalised entropy: log loss / entropy of the weighted base rate; 1 for a constant guess."""
    calibration: float | None
    """Weighted sum of scores / weighted sum of labels; above 1 it predicts too many."""
    rows: int
    """Rows that the figures are taken over."""
    positives: int
    """Of them, rows with label 1."""
    weight_sum: float
    zero_weight_rows: int
    """Rows left out because they weigh nothing."""
    invalid_scores: int
    """Rows left out because their score is not a number in [0, 1]; then no figure is given."""
    saturated_scores: int = 0
    """Rows whose score is exactly 0 or 1: what float32 rounds to it has no order any more."""
    reasons: dict[str, str] = field(default_factory=dict)


class BinaryScores:
    """Accumulates (score, label, weight) rows; `compute` is exact and independent of their order.

    Any split of the rows into accumulators, merged in any order, gives the same metrics bit for
    bit. Picklable. Memory: 16 bytes per distinct (score, label, weight), and a few times that
    while sorting; nothing on an accelerator.
    """

    def __init__(self) -> None:
        self._rows = RowCounts(num_columns=1)
        self._num_zero_weight = 0
        self._num_invalid = 0

    def add(self, scores: Any, labels: Any, weights: Any | None = None) -> None:
        """Adds rows: 1-D numpy arrays or CPU tensors without gradient, of one length.

        `scores`: probabilities, float32, kept as they are. `labels`: 0 or 1. `weights` (default 1):
        >= 0, float32. Observed rows only. Raises TypeError for float64, ValueError for other
        labels, negative weights or different lengths; a score that is no probability is counted
        instead, so that no rank raises alone.
        """
        rows = check_rows(scores, labels, weights, largest_prediction=1.0)
        is_positive = rows.labels == 1
        other = ~is_positive & (rows.labels != 0)
        if other.any():
            raise ValueError(f"labels must be 0 or 1; found {rows.labels[other][0]}")
        self._num_zero_weight += rows.num_zero_weight
        self._num_invalid += rows.num_invalid
        if len(rows.labels):
            self._rows.add(_pack(rows.predictions, rows.weights, is_positive))

    def merge(self, other: BinaryScores) -> None:
        """Adds all rows of `other`."""
        self._rows.merge(other._rows)
        self._num_zero_weight += other._num_zero_weight
        self._num_invalid += other._num_invalid

    @classmethod
    def merged(cls, parts: Iterable[BinaryScores]) -> Self:
        """A new accumulator with the rows of all `parts`."""
        whole = cls()
        for part in parts:
            whole.merge(part)
        return whole

    def compute(self) -> BinaryMetrics:
        """The metrics of all rows added so far; one pass over the distinct rows, in float64."""
        [keys], counts = self._rows.sorted()
        scores, weights, is_positive = _unpack(keys)
        weight = counts * weights
        positive = np.where(is_positive, weight, 0.0)
        negative = weight - positive
        p, n = float(positive.sum()), float(negative.sum())
        rows = int(counts.sum())
        positives = int(counts[is_positive].sum())
        reasons = self._reasons(rows, positives)
        auc = log_loss = ne = calibration = None
        if "log_loss" not in reasons:
            log_loss = _log_loss(scores, positive, negative) / (p + n)
        if "auc" not in reasons:
            auc = _auc(scores, positive, negative) / (p * n)
        rate = p / (p + n) if p + n > 0.0 else 0.0
        if "ne" not in reasons and not 0.0 < rate < 1.0:
            reasons["ne"] = LOST_CLASS
        if "ne" not in reasons and log_loss is not None:
            ne = log_loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        if "calibration" not in reasons:
            calibration = float((weight * scores).sum()) / p
        return BinaryMetrics(
            auc=auc,
            log_loss=log_loss,
            ne=None if ne is None else float(ne),
            calibration=calibration,
            rows=rows,
            positives=positives,
            weight_sum=p + n,
            zero_weight_rows=self._num_zero_weight,
            invalid_scores=self._num_invalid,
            saturated_scores=int(counts[(scores == 0) | (scores == 1)].sum()),
            reasons=reasons,
        )

    def _reasons(self, rows: int, positives: int) -> dict[str, str]:
        every = ("auc", "log_loss", "ne", "calibration")
        if self._num_invalid:
            return dict.fromkeys(every, f"{self._num_invalid} scores are not numbers in [0, 1]")
        if rows == 0:
            return dict.fromkeys(every, "no observed row with a positive weight")
        if positives == 0:
            return dict.fromkeys(("auc", "ne", "calibration"), f"all {rows} labels are 0")
        if positives == rows:
            return dict.fromkeys(("auc", "ne"), f"all {rows} labels are 1")
        return {}


def _pack(
    scores: NDArray[np.float32], weights: NDArray[np.float32], is_positive: NDArray[np.bool_]
) -> NDArray[np.uint64]:
    """A row as one integer, 32 bits of score, 31 of weight, 1 of label: sorts by score first.

    The bits of floats that are not negative rise with their values.
    """
    keys = scores.view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys |= weights.view(np.uint32).astype(np.uint64) << np.uint64(1)
    keys |= is_positive.astype(np.uint64)
    return keys


def _unpack(
    keys: NDArray[np.uint64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    scores = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32).astype(np.float64)
    low = keys.astype(np.uint32)
    weights = (low >> np.uint32(1)).view(np.float32).astype(np.float64)
    return scores, weights, (low & np.uint32(1)).astype(np.bool_)


def _auc(
    scores: NDArray[np.float64], positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> float:
    """Mann-Whitney U: weight of (positive, negative) pairs in the right order, ties half."""
    starts = np.flatnonzero(np.diff(scores, prepend=-1.0))
    positive_of_score = np.add.reduceat(positive, starts)
    negative_of_score = np.add.reduceat(negative, starts)
    below = np.cumsum(negative_of_score) - 0.5 * negative_of_score
    return float((positive_of_score * below).sum())


def _log_loss(
    scores: NDArray[np.float64], positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> float:
    clipped = np.clip(scores, LOG_LOSS_CLIP, 1.0 - LOG_LOSS_CLIP)
    return -float((positive * np.log(clipped) + negative * np.log1p(-clipped)).sum())
