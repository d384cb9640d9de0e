"""All figures of a task's rows, and each of them as the report shows it."""

from __future__ import annotations

from typing import Literal

from marigold_rec.analysis.binary_report import binary_figures
from marigold_rec.analysis.by_user import gxauc_estimates
from marigold_rec.analysis.estimate import (
    SCALES,
    Estimate,
    Scale,
    difference,
    interval,
    standard_error,
)
from marigold_rec.analysis.report import Figure
from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.slates import slate_estimates
from marigold_rec.analysis.watch_time import watch_time_estimates

Kind = Literal["binary", "duration"]

HEADLINE = {"binary": "auc", "duration": "xauc"}
"""The figure that slices and detectable differences are about."""


def estimates(kind: Kind, rows: Rows, ndcg_at: tuple[int, ...] = ()) -> dict[str, Estimate]:
    """By name; NDCG and MRR only where there are slates."""
    if kind == "duration":
        return watch_time_estimates(rows) | gxauc_estimates(rows)
    return binary_figures(rows) | slates(rows, ndcg_at)


def slates(rows: Rows, ndcg_at: tuple[int, ...]) -> dict[str, Estimate]:
    """Nothing where there are no slates."""
    return {} if rows.group_N is None else slate_estimates(rows, ndcg_at)


def figure(name: str, new: Estimate, old: Estimate | None, confidence: float) -> Figure:
    """`old`: the baseline's estimate over the same rows."""
    if new.value is None:
        return Figure(value=None, reason=new.reason, baseline=None if old is None else old.value)
    se = None if new.influence_C is None else standard_error(new.influence_C)
    low, high = interval(new.value, se, _scale(name), confidence) or (None, None)
    paired = None if old is None else difference(new, old, confidence)
    return Figure(
        value=new.value,
        standard_error=se,
        low=low,
        high=high,
        baseline=None if old is None else old.value,
        delta=None if paired is None else paired.delta,
        delta_low=None if paired is None else paired.low,
        delta_high=None if paired is None else paired.high,
        p_value=None if paired is None else paired.p_value,
    )


def figures(
    new: dict[str, Estimate], old: dict[str, Estimate] | None, confidence: float
) -> dict[str, Figure]:
    return {
        name: figure(name, estimate, None if old is None else old[name], confidence)
        for name, estimate in new.items()
    }


def _scale(name: str) -> Scale:
    """`ndcg@10` is on NDCG's."""
    return SCALES[name.partition("@")[0]]
