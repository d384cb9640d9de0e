"""The figures that come from a ranking: AUC, average precision, calibration error.

Shapes: n rows of a chunk; C clusters; G groups of rows in a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.class_sums import ClassSums
from marigold_rec.analysis.codes import run_starts
from marigold_rec.analysis.estimate import ClusterSums, Complex128s, Estimate
from marigold_rec.analysis.ranking import Places, Ranking


def ranked_estimates(ranking: Ranking, sums: ClassSums) -> dict[str, Estimate]:
    """auc, pr_auc and ece, see `binary_estimates`; of rows of one class, ece only."""
    found = {"ece": Estimate(_calibration_error(ranking))}
    if ranking.has_both_classes:
        walk = _Walk(ranking, sums.clusters, sums.clusters.pairs())
        for part in ranking.whole_ties():
            walk.add(part)
        found["auc"] = walk.auc(sums)
        found["pr_auc"] = walk.pr_auc(sums)
    return found


def _calibration_error(ranking: Ranking) -> float:
    labels_B = np.diff(ranking.positives_before(ranking.bin_starts), append=ranking.positive)
    errors_B = np.abs(ranking.bin_scores - labels_B)
    return float(errors_B.sum()) / (ranking.positive + ranking.negative)


@dataclass
class _Walk:
    """What a walk from the highest score to the lowest collects.

    With tp, fp the weights of the positives and negatives at or above a score, p, n those at it and
    P, N all: the AUC is sum n (tp - p/2) / (P N), the average precision sum p tp/(tp + fp) / P. A
    row's weight enters the second at its own score, and in tp or fp of all scores below.
    """

    ranking: Ranking
    clusters: ClusterSums
    both_C: Complex128s
    """Of the AUC, and of the average precision."""
    auc_pairs: float = 0.0
    precision: float = 0.0
    gain: float = 0.0
    """Sum of p fp/(tp + fp)^2 so far: what a positive above all of them adds to the precision."""
    loss: float = 0.0
    """Sum of p tp/(tp + fp)^2 so far: what a negative above all of them takes."""

    def add(self, part: slice) -> None:
        """The rows in the next places; all of a score at once."""
        ranking = self.ranking
        start_G, num_positive_G = _groups(ranking, part)
        end_G = np.append(start_G[1:], part.stop)
        tp_G = ranking.positives_before(end_G).astype(np.float64)
        fp_G = ranking.negatives_before(end_G).astype(np.float64)
        p_G = tp_G - ranking.positives_before(start_G)
        n_G = fp_G - ranking.negatives_before(start_G)

        above_G = tp_G - 0.5 * p_G
        below_G = ranking.negative - fp_G + 0.5 * n_G
        self.auc_pairs += float((n_G * above_G).sum())
        precision_G = tp_G / (tp_G + fp_G)
        self.precision += float((p_G * precision_G).sum())
        loss_G = p_G * precision_G / (tp_G + fp_G)
        gain_G = p_G * (1.0 - precision_G) / (tp_G + fp_G)
        gain_after_G, loss_after_G = self.gain + np.cumsum(gain_G), self.loss + np.cumsum(loss_G)
        self.gain, self.loss = float(gain_after_G[-1]), float(loss_after_G[-1])

        counts = _alternating(num_positive_G, end_G - start_G - num_positive_G)
        pr_G = precision_G + gain_G - gain_after_G
        auc_n, pr_n = (
            ranking.weighted(part, np.repeat(values, counts))
            for values in (
                _alternating(below_G, above_G),
                _alternating(pr_G, loss_after_G - loss_G),
            )
        )
        self.clusters.add_pairs(self.both_C, ranking.clusters(part), auc_n, pr_n)

    def auc(self, sums: ClassSums) -> Estimate:
        """Of all rows that were added."""
        positive, negative = self.ranking.positive, self.ranking.negative
        auc = self.auc_pairs / (positive * negative)
        auc_C = self.both_C.real / (positive * negative)
        auc_C -= (auc / negative) * sums.weight_C
        auc_C -= (auc / positive - auc / negative) * sums.positive_C
        return Estimate(auc, auc_C)

    def pr_auc(self, sums: ClassSums) -> Estimate:
        """Of all rows that were added."""
        average = self.precision / self.ranking.positive
        # What a row adds at the scores below is the whole sum less the one above it.
        pr_C = self.both_C.imag - self.loss * sums.weight_C
        pr_C += (self.gain + self.loss - average) * sums.positive_C
        pr_C /= self.ranking.positive
        return Estimate(average, pr_C)


def _groups(ranking: Ranking, part: slice) -> tuple[Places, Places]:
    """(first place, number of positives) of each group: a tie, or neighbours without a positive.

    The negatives between two positives have the same positives above them: one group is enough, and
    with few positives there are few groups.
    """
    start_G = run_starts(ranking.ties(part))
    is_positive_n = ranking.is_positive(part)
    has_positive_G = is_positive_n[start_G]  # they come first
    is_kept_G = has_positive_G.copy()
    is_kept_G[1:] |= has_positive_G[:-1]
    is_kept_G[0] = True
    start_G = start_G[is_kept_G]
    first = np.searchsorted(np.flatnonzero(is_positive_n), start_G)
    num_positive_G = np.diff(first, append=np.count_nonzero(is_positive_n))
    return start_G + part.start, num_positive_G


def _alternating(first_G: NDArray, second_G: NDArray) -> NDArray:
    return np.stack([first_G, second_G], axis=1).ravel()
