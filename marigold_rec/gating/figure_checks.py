"""The candidate's figures, and their differences to the published model's, against the rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from marigold_rec.analysis.report import Figure, Report, TaskReport
from marigold_rec.config.gate import FigureRule, GateConfig
from marigold_rec.gating.verdict import Check, Where, limited, stated
from marigold_rec.metrics import metric_of
from marigold_rec.reporting.wording import (
    interval,
    number,
    shown,
    signed,
    signed_interval,
)

ON = {"evaluation": "the next days", "holdout": "the hold-out"}


def figure_checks(rules: GateConfig, report: Report, on: Where) -> Iterator[Check]:
    """`on`: which report this is. Delta rules are left out where the report has no baseline."""
    tasks = {task.name: task for task in report.tasks}
    for name in [*tasks, *(name for name in rules.tasks if name not in tasks)]:
        task = tasks.get(name)
        for metric, rule in rules_of_task(rules, name, task).items():
            if rule.on not in ("both", on):
                continue
            if task is None:
                yield _missing(
                    rule, name, metric, on, "there is no such task in the report; the config's "
                    "gate.tasks names it",
                )  # fmt: skip
                continue
            figure = task.figures.get(metric)
            if figure is None or figure.value is None:
                reason = None if figure is None else figure.reason
                known = f"the report has no such figure; it has {', '.join(sorted(task.figures))}"
                yield _missing(rule, name, metric, on, reason or known)
                continue
            yield from _own_checks(rules, rule, name, metric, figure, on)
            if report.baseline is not None:
                yield from _delta_checks(rules, rule, name, metric, figure, on)


def rules_of_task(
    rules: GateConfig, name: str, task: TaskReport | None
) -> Mapping[str, FigureRule]:
    """The defaults of its kind with its own on top. No defaults for p(click) p(conversion | click)
    over all rows: its parts have theirs."""
    merged = _merged_rules(rules, name, task)
    return {metric: rule for metric, rule in merged.items() if rule is not None}


def figures_left_out(rules: GateConfig, task: TaskReport) -> set[str]:
    """Those whose rule is null."""
    merged = _merged_rules(rules, task.name, task)
    return {metric for metric, rule in merged.items() if rule is None}


def _merged_rules(
    rules: GateConfig, name: str, task: TaskReport | None
) -> dict[str, FigureRule | None]:
    merged = dict[str, FigureRule | None]()
    if task is not None and task.space == "observed":
        merged |= rules.defaults[task.kind]
    return merged | rules.tasks.get(name, {})


def _missing(rule: FigureRule, task: str, metric: str, on: Where, why: str) -> Check:
    return stated(
        f"tasks.{task}.{metric}", on, task, "passed" if rule.may_be_missing else "failed",
        f"{shown(task)} has no {metric_of(metric).label} on {ON[on]}: {shown(why)}",
        "look at the evaluation's labels, or set may_be_missing",
    )  # fmt: skip


def _own_checks(
    rules: GateConfig, rule: FigureRule, task: str, metric: str, figure: Figure, on: Where
) -> Iterator[Check]:
    low, high = rule.within or (rule.min, rule.max)
    if (low is None and high is None) or figure.value is None:
        return
    between = interval_that_counts(rules, rule, figure.low, figure.high)
    said = interval(figure.low, figure.high, metric)
    label = metric_of(metric).label
    what = (
        "within" if rule.within else "min" if high is None else "max" if low is None else "limits"
    )
    yield limited(
        f"tasks.{task}.{metric}.{what}", on, task, figure.value,
        f"{shown(task)}: {label} is {number(figure.value, metric)}{f' ({said})' if said else ''} "
        f"on {ON[on]}; {_allowed(low, high, metric)}",
        "look at the report's curves and the new days' labels",
        low=low, high=high, interval=between,
    )  # fmt: skip


def _delta_checks(
    rules: GateConfig, rule: FigureRule, task: str, metric: str, figure: Figure, on: Where
) -> Iterator[Check]:
    low, high = rule.min_delta, rule.max_delta
    if low is None and high is None:
        return
    what = "min_delta" if high is None else "max_delta" if low is None else "delta"
    name = f"tasks.{task}.{metric}.{what}"
    label = metric_of(metric).label
    if figure.delta is None:
        yield stated(
            name, on, task, "not_judged",
            f"{shown(task)}: the published model has no {label} on {ON[on]} to compare with",
        )  # fmt: skip
        return
    between = interval_that_counts(rules, rule, figure.delta_low, figure.delta_high)
    said = signed_interval(figure.delta_low, figure.delta_high, metric)
    allowed = " to ".join(signed(end, metric) for end in (low, high) if end is not None)
    yield limited(
        name, on, task, figure.delta,
        f"{shown(task)}: {label} {number(figure.value, metric)} is "
        f"{signed(figure.delta, metric) or '0'}{f' ({said})' if said else ''} against the "
        f"published model's {number(figure.baseline, metric)} on {ON[on]}; {allowed} is allowed",
        "look at the report's slices, and at what is new in these days",
        low=low, high=high, interval=between,
    )  # fmt: skip


def interval_that_counts(
    rules: GateConfig, rule: FigureRule | None, low: float | None, high: float | None
) -> tuple[float, float] | None:
    """None: the value itself is judged, also where there is no interval."""
    if ((rule and rule.by) or rules.by) == "value" or low is None or high is None:
        return None
    return low, high


def _allowed(low: float | None, high: float | None, metric: str) -> str:
    if low is None:
        return f"at most {number(high, metric)} is allowed"
    if high is None:
        return f"at least {number(low, metric)} is asked"
    return f"{number(low, metric)} to {number(high, metric)} is allowed"
