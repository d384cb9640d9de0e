"""A yes/no task's figures, each with its exact derivative in the rows' weights.

Shapes: N rows; C clusters.
"""

from __future__ import annotations

import numpy as np

from marigold_rec.analysis.auc import ranked_estimates
from marigold_rec.analysis.by_user import no_figure
from marigold_rec.analysis.class_sums import ClassSums
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.ranking import Ranking
from marigold_rec.analysis.rows import Rows
from marigold_rec.metrics import computed_by

LOST_CLASS = (
    "one class weighs so much that the other is lost beside it (beyond 1e16 times): look at the "
    "weights"
)
FIGURES = computed_by(f"{__name__}:binary_estimates")


def binary_estimates(
    rows: Rows, num_clusters: int | None = None, *, sums: ClassSums | None = None
) -> dict[str, Estimate]:
    """FIGURES of these rows.

    auc: a tie of a positive and a negative counts half. pr_auc: average precision, sum over the
    scores of (rise of the recall) * precision. log_loss: nats, clipped by LOG_LOSS_CLIP.
    ne: log loss / entropy of the base rate. rig: 1 - ne. calibration: weighted sum of scores / of
    labels. ece: mean |mean score - base rate| over the bins of a `Ranking`, without an interval as
    it has kinks.

    `num_clusters`: length of the influences, see ClusterSums. `sums`: of these rows, where they are
    at hand. O(N log N). Memory: that of a `Ranking` and of `ClassSums`, and 8 bytes per cluster for
    each of at most eight columns.
    """
    if (reason := no_figure(rows, 1)) is not None:
        return dict.fromkeys(FIGURES, Estimate(None, reason=reason))
    if sums is None:
        sums = ClassSums.of(rows, num_clusters)
    found = ranked_estimates(Ranking.of(rows), sums) | additive_estimates(sums)
    return with_reasons(rows, found)


def with_reasons(rows: Rows, found: dict[str, Estimate]) -> dict[str, Estimate]:
    """FIGURES: those that were found, and why there are no others."""
    positives = int(np.count_nonzero(rows.label_N))
    reason = f"all {positives} labels are 1" if positives else f"all {len(rows)} labels are 0"
    if 0 < positives < len(rows):  # both are there, and one vanishes in the sums of weights
        reason = LOST_CLASS
    return {name: found.get(name) or Estimate(None, reason=reason) for name in FIGURES}


def additive_estimates(sums: ClassSums) -> dict[str, Estimate]:
    """The figures that are made of sums over rows: their influence is that of each sum."""
    weight_C, positive_C = sums.weight_C, sums.positive_C
    total, positive = float(weight_C.sum()), float(positive_C.sum())
    found = {}
    if positive > 0.0:
        calibration = float(sums.score_C.sum()) / positive
        score_C = sums.score_C - calibration * positive_C
        score_C /= positive
        found["calibration"] = Estimate(calibration, score_C)
    log_loss = float(sums.loss_C.sum()) / total
    loss_C = sums.loss_C - log_loss * weight_C
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
