"""A yes/no task's figures, each with its exact derivative in the rows' weights; one sort for all.

Shapes: N rows, n of them in a chunk, C clusters, G groups of rows with the same score in a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.estimate import ClusterSums, Estimate, chunks, weights
from marigold_rec.analysis.rows import Float64s, Rows
from marigold_rec.metrics import LOG_LOSS_CLIP

FIGURES = ("auc", "pr_auc", "log_loss", "ne", "rig", "calibration", "ece")

_NUM_BINS = 20
_SIGN = np.uint32(0x7FFFFFFF)
_BITS_OF_ONE = np.uint64(0x3F800000)
_SCORE_SHIFT = np.uint64(33)

Keys = NDArray[np.uint64]


def binary_estimates(rows: Rows, num_clusters: int | None = None) -> dict[str, Estimate]:
    """FIGURES of these rows.

    auc: a tie of a positive and a negative counts half. pr_auc: average precision, sum over the
    scores of (rise of the recall) * precision. log_loss: nats, clipped as in marigold_rec.metrics.
    ne: log loss / entropy of the base rate. rig: 1 - ne. calibration: weighted sum of scores / of
    labels. ece: mean |mean score - base rate| over 20 bins of equal weight, without an interval as
    it has kinks. Equal weight and not equal width: a click rate's scores would share one or two
    bins of equal width, in which errors of both signs cancel. Rows of one score stay in one bin.

    `num_clusters`: length of the influences, see ClusterSums. O(N log N). Memory: 8 bytes per row
    while sorting, and 8 per cluster for each of at most eight columns.
    """
    reasons = _reasons(rows)
    if "log_loss" in reasons:
        return {name: Estimate(None, reason=reasons[name]) for name in FIGURES}
    clusters = ClusterSums(rows, num_clusters)
    weight_C, positive_C = clusters.zeros(), clusters.zeros()
    for part in chunks(len(rows)):
        weight_n, of_n = weights(rows, part), clusters.of(part)
        clusters.add(weight_C, of_n, weight_n)
        clusters.add(positive_C, of_n, weight_n * rows.label_N[part])
    total, positive = float(weight_C.sum()), float(positive_C.sum())
    ranked = _Ranked(clusters.zeros(), clusters.zeros(), positive, total - positive)
    keys = _sorted_keys(rows)
    for part in _whole_ties(keys):
        ranked.add(rows, clusters, keys[part])
    del keys  # 8 bytes per row that the next columns need
    found = {"ece": Estimate(ranked.ece())}
    if "auc" not in reasons:
        found["auc"] = ranked.auc(weight_C, positive_C)
        found["pr_auc"] = ranked.pr_auc(weight_C, positive_C)
    del ranked
    found |= _additive(rows, clusters, weight_C, positive_C)
    return {name: found.get(name) or Estimate(None, reason=reasons[name]) for name in FIGURES}


def _reasons(rows: Rows) -> dict[str, str]:
    if len(rows) == 0:
        return dict.fromkeys(FIGURES, "no observed row with a positive weight")
    num_invalid = len(rows) - int(np.sum((rows.score_N >= 0) & (rows.score_N <= 1)))
    if num_invalid:
        return dict.fromkeys(FIGURES, f"{num_invalid} scores are not numbers in [0, 1]")
    positives = int(np.count_nonzero(rows.label_N))
    if positives == 0:
        names = ("auc", "pr_auc", "ne", "rig", "calibration")
        return dict.fromkeys(names, f"all {len(rows)} labels are 0")
    if positives == len(rows):
        return dict.fromkeys(("auc", "pr_auc", "ne", "rig"), f"all {positives} labels are 1")
    return {}


def _additive(
    rows: Rows, clusters: ClusterSums, weight_C: Float64s, positive_C: Float64s
) -> dict[str, Estimate]:
    """The figures that are made of sums over rows: their influence is that of each sum."""
    loss_C, score_C = clusters.zeros(), clusters.zeros()
    for part in chunks(len(rows)):
        weight_n, score_n = weights(rows, part), rows.score_N[part].astype(np.float64)
        of_n = clusters.of(part)
        clusters.add(score_C, of_n, weight_n * score_n)
        right_n = np.where(rows.label_N[part] == 1, score_n, 1.0 - score_n)
        np.clip(right_n, LOG_LOSS_CLIP, 1.0 - LOG_LOSS_CLIP, out=right_n)
        clusters.add(loss_C, of_n, -weight_n * np.log(right_n))
    total, positive = float(weight_C.sum()), float(positive_C.sum())
    found = {}
    if positive > 0.0:
        calibration = float(score_C.sum()) / positive
        score_C -= calibration * positive_C
        score_C /= positive
        found["calibration"] = Estimate(calibration, score_C)
    log_loss = float(loss_C.sum()) / total
    loss_C -= log_loss * weight_C
    loss_C /= total
    found["log_loss"] = Estimate(log_loss, loss_C)
    rate = positive / total
    if 0.0 < rate < 1.0:
        entropy = float(-(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate)))
        slope = float(np.log1p(-rate) - np.log(rate))  # of the entropy in the rate
        ne = log_loss / entropy
        ne_C = positive_C - rate * weight_C  # the rate's influence, times the total
        ne_C *= -ne * slope / total
        ne_C += loss_C
        ne_C /= entropy
        found["ne"] = Estimate(ne, ne_C)
        found["rig"] = Estimate(1.0 - ne, -ne_C)
    return found


def _sorted_keys(rows: Rows) -> Keys:
    """A row as one integer, 30 bits of score, 32 of row, 1 of label: the highest score first.

    The bits of floats that are not negative rise with their values (-0.0 loses its sign). Sorting
    integers that carry their row is several times faster than argsort.
    """
    keys = np.empty(len(rows), np.uint64)
    for part in chunks(len(rows)):
        bits_n = (rows.score_N[part].view(np.uint32) & _SIGN).astype(np.uint64)
        keys_n = (_BITS_OF_ONE - bits_n) << _SCORE_SHIFT
        keys_n |= np.arange(part.start, part.stop, dtype=np.uint64) << np.uint64(1)
        keys_n |= rows.label_N[part] == 1
        keys[part] = keys_n
    keys.sort()
    return keys


def _whole_ties(keys: Keys) -> Iterator[slice]:
    """Chunks of the sorted keys that no score straddles; larger where a score has more rows."""
    start = 0
    for part in chunks(len(keys)):
        if part.stop <= start:
            continue
        end_of_last = ((keys[part.stop - 1] >> _SCORE_SHIFT) + np.uint64(1)) << _SCORE_SHIFT
        stop = int(np.searchsorted(keys, end_of_last))
        yield slice(start, stop)
        start = stop


@dataclass
class _Ranked:
    """What a walk from the highest score to the lowest collects. Called in that order.

    With tp, fp the weights of the positives and negatives at or above a score, p, n those at it and
    P, N all: the AUC is sum n (tp - p/2) / (P N), the average precision sum p tp/(tp + fp) / P. A
    row's weight enters the second at its own score, and in tp or fp of all scores below.
    """

    auc_C: Float64s
    pr_C: Float64s
    all_positive: float
    all_negative: float
    positive: float = 0.0
    negative: float = 0.0
    auc_pairs: float = 0.0
    precision: float = 0.0
    gain: float = 0.0
    """Sum of p fp/(tp + fp)^2 so far: what a positive above all of them adds to the precision."""
    loss: float = 0.0
    """Sum of p tp/(tp + fp)^2 so far: what a negative above all of them takes."""
    bin_errors: Float64s = field(default_factory=lambda: np.zeros(_NUM_BINS))

    def add(self, rows: Rows, clusters: ClusterSums, keys_n: Keys) -> None:
        """The next rows; all of a score at once."""
        is_positive_n = (keys_n & np.uint64(1)).astype(np.intp)
        row_n = (keys_n >> np.uint64(1)).astype(np.uint32)
        code_n = keys_n >> _SCORE_SHIFT
        is_new_n = np.ones(len(keys_n), np.bool_)
        np.not_equal(code_n[1:], code_n[:-1], out=is_new_n[1:])
        start_G = np.flatnonzero(is_new_n)
        weight_n = weights(rows, row_n)
        p_G = np.add.reduceat(weight_n * is_positive_n, start_G)
        n_G = np.add.reduceat(weight_n * (1 - is_positive_n), start_G)
        score_G = (_BITS_OF_ONE - code_n[start_G]).astype(np.uint32).view(np.float32)
        self._add_to_bins(score_G, p_G, n_G)
        tp_G, fp_G = self.positive + np.cumsum(p_G), self.negative + np.cumsum(n_G)
        self.positive, self.negative = float(tp_G[-1]), float(fp_G[-1])

        above_G = tp_G - 0.5 * p_G
        below_G = self.all_negative - fp_G + 0.5 * n_G
        self.auc_pairs += float((n_G * above_G).sum())
        precision_G = tp_G / (tp_G + fp_G)
        self.precision += float((p_G * precision_G).sum())
        loss_G = p_G * precision_G / (tp_G + fp_G)
        gain_G = p_G * (1.0 - precision_G) / (tp_G + fp_G)
        gain_after_G, loss_after_G = self.gain + np.cumsum(gain_G), self.loss + np.cumsum(loss_G)
        self.gain, self.loss = float(gain_after_G[-1]), float(loss_after_G[-1])

        # Of a negative and a positive in turn, for each group: found by 2 * group + label.
        entry_n = 2 * np.cumsum(is_new_n) - 2 + is_positive_n
        of_n = clusters.of(row_n)
        auc_entries = np.stack([above_G, below_G], axis=1).ravel()
        clusters.add(self.auc_C, of_n, weight_n * auc_entries[entry_n])
        pr_G = precision_G + gain_G - gain_after_G
        pr_entries = np.stack([loss_after_G - loss_G, pr_G], axis=1).ravel()
        clusters.add(self.pr_C, of_n, weight_n * pr_entries[entry_n])

    def _add_to_bins(self, score_G: NDArray[np.float32], p_G: Float64s, n_G: Float64s) -> None:
        weight_G = p_G + n_G
        middle_G = self.positive + self.negative + np.cumsum(weight_G) - 0.5 * weight_G
        share_G = middle_G / (self.all_positive + self.all_negative)
        bin_G = np.minimum(share_G * _NUM_BINS, _NUM_BINS - 1).astype(np.intp)
        self.bin_errors += np.bincount(bin_G, weight_G * score_G - p_G, _NUM_BINS)

    def ece(self) -> float:
        return float(np.abs(self.bin_errors).sum()) / (self.all_positive + self.all_negative)

    def auc(self, weight_C: Float64s, positive_C: Float64s) -> Estimate:
        """Of all rows; no more may be added. Takes `auc_C`."""
        auc = self.auc_pairs / (self.all_positive * self.all_negative)
        self.auc_C /= self.all_positive * self.all_negative
        self.auc_C -= (auc / self.all_negative) * weight_C
        self.auc_C -= (auc / self.all_positive - auc / self.all_negative) * positive_C
        return Estimate(auc, self.auc_C)

    def pr_auc(self, weight_C: Float64s, positive_C: Float64s) -> Estimate:
        """Of all rows; no more may be added. Takes `pr_C`."""
        average = self.precision / self.all_positive
        # What a row adds at the scores below is the whole sum less the one above it.
        self.pr_C -= self.loss * weight_C
        self.pr_C += (self.gain + self.loss - average) * positive_C
        self.pr_C /= self.all_positive
        return Estimate(average, self.pr_C)
