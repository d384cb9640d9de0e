"""All figures of a task's rows, and each of them as the report shows it."""

from __future__ import annotations

from marigold_rec.analysis.binary_report import binary_figures, binary_report
from marigold_rec.analysis.curves import watch_time_curves
from marigold_rec.analysis.estimate import Estimate, difference, interval, standard_error
from marigold_rec.analysis.report import Curves, Figure
from marigold_rec.analysis.rows import Rows
from marigold_rec.config.label_kinds import LABEL_KINDS, Kind
from marigold_rec.metrics import functions_of, metric_of, metrics_of


def estimates(kind: Kind, rows: Rows) -> dict[str, Estimate]:
    """The metrics of a kind of label, by name; those within slates only where there are slates."""
    return _completed(kind, rows, binary_figures(rows) if LABEL_KINDS[kind].has_classes else {})


def estimates_and_curves(
    kind: Kind, rows: Rows, confidence: float
) -> tuple[dict[str, Estimate], Curves]:
    """`confidence`: of the curves' intervals."""
    if LABEL_KINDS[kind].has_classes:
        found, curves = binary_report(rows, confidence)  # one ranking for both
    else:
        found, curves = {}, watch_time_curves(rows)
    return _completed(kind, rows, found), curves


def _completed(kind: Kind, rows: Rows, found: dict[str, Estimate]) -> dict[str, Estimate]:
    """With what the functions of the missing metrics compute."""
    wanted = {
        metric.function
        for name, metric in metrics_of(kind).items()
        if name not in found and not (metric.within == "slate" and rows.group_N is None)
    }
    for path, function in functions_of(kind).items():
        if path in wanted:
            found = {**found, **function(rows)}
    return found


def figure(name: str, new: Estimate, old: Estimate | None, confidence: float) -> Figure:
    """`old`: the baseline's estimate over the same rows."""
    if new.value is None:
        return Figure(value=None, reason=new.reason, baseline=None if old is None else old.value)
    se = None if new.influence_C is None else standard_error(new.influence_C)
    low, high = interval(new.value, se, metric_of(name).scale, confidence) or (None, None)
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
    """A baseline whose head lacks a column lacks the figures that are made of it."""
    return {
        name: figure(name, estimate, None if old is None else old.get(name), confidence)
        for name, estimate in new.items()
    }
