"""Exact offline metrics: equal, bit for bit, at any number of ranks."""

from marigold_rec.metrics.binary import LOG_LOSS_CLIP, BinaryMetrics, BinaryScores
from marigold_rec.metrics.gather import gather_to_rank0, merge_on_first_rank
from marigold_rec.metrics.regression import RegressionMetrics, RegressionScores

__all__ = [
    "LOG_LOSS_CLIP",
    "BinaryMetrics",
    "BinaryScores",
    "RegressionMetrics",
    "RegressionScores",
    "gather_to_rank0",
    "merge_on_first_rank",
]
