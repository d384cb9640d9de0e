"""Figures that no sound night shows: worse than a constant, or too good to be true."""

from __future__ import annotations

from collections.abc import Iterator

from marigold_rec.analysis.report import Report, TaskReport
from marigold_rec.config.gate import GateConfig
from marigold_rec.gating.figure_checks import ON, figures_left_out, interval_that_counts
from marigold_rec.gating.verdict import Check, Where, limited
from marigold_rec.metrics import METRICS, metric_of, metrics_of
from marigold_rec.reporting.wording import number, shown, signed


def plausible_checks(rules: GateConfig, report: Report, on: Where) -> Iterator[Check]:
    """Of every task and figure that is not left out, whatever its own rules say."""
    for task in report.tasks:
        left_out = figures_left_out(rules, task)
        for metric in metrics_of(task.kind):
            if METRICS[metric].constant is None or metric in left_out:
                continue
            if METRICS[metric].better == "higher":
                yield from _floor(rules, task, metric, on, low=rules.plausible.min_auc)
                yield from _gain(rules, task, metric, on)
            else:
                yield from _floor(rules, task, metric, on, high=_max_ne(rules, task))


def _max_ne(rules: GateConfig, task: TaskReport) -> float | None:
    limit, auc = rules.plausible.max_ne, task.figures.get("auc")
    if limit is None:
        return None
    if auc is None or auc.value is None:
        return 1.0
    low, _ = interval_that_counts(rules, None, auc.low, auc.high) or (auc.value, auc.value)
    return limit if low > (METRICS["auc"].constant or 0.0) else 1.0


def _floor(
    rules: GateConfig,
    task: TaskReport,
    metric: str,
    on: Where,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Iterator[Check]:
    figure, limit = task.figures.get(metric), high if low is None else low
    if figure is None or figure.value is None or limit is None:
        return
    yield limited(
        f"plausible.{'min_auc' if high is None else 'max_ne'}", on, task.name, figure.value,
        f"{shown(task.name)}: {metric_of(metric).label} is {number(figure.value, metric)} on "
        f"{ON[on]}; a constant has {METRICS[metric].constant:g}, at "
        f"{'least' if high is None else 'most'} "
        f"{number(limit, metric)} is asked",
        "look at the labels and the newest losses: this model is worse than none",
        low=low, high=high, interval=interval_that_counts(rules, None, figure.low, figure.high),
    )  # fmt: skip


def _gain(rules: GateConfig, task: TaskReport, metric: str, on: Where) -> Iterator[Check]:
    figure, limit = task.figures.get(metric), rules.plausible.max_gain
    if figure is None or figure.delta is None or limit is None:
        return
    yield limited(
        "plausible.max_gain", on, task.name, figure.delta,
        f"{shown(task.name)}: {metric_of(metric).label} {number(figure.value, metric)} is "
        f"{signed(figure.delta, metric) or '0'} against the published model's "
        f"{number(figure.baseline, metric)} on {ON[on]}; at most {signed(limit, metric)} is "
        "believed",
        "look whether the judged days were learned, or a feature knows the label; a true gain "
        "passes with nightly.gate.plausible.max_gain",
        high=limit,
        interval=interval_that_counts(rules, None, figure.delta_low, figure.delta_high),
    )  # fmt: skip
