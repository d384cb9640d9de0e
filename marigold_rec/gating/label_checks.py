"""The new days' labels against the nights before: a broken join, flipped labels, a lost event."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median, stdev

from marigold_rec.config.gate import DataLimits
from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.gating.verdict import Check, limited, stated
from marigold_rec.profile import LabelProfile, Profile
from marigold_rec.reporting.wording import shown
from marigold_rec.transforms.examples import exact

_LEAST_NIGHTS = 2
"""Of one night nobody knows how much labels move from day to day."""


def label_checks(limits: DataLimits, today: Profile, nights: Sequence[Profile]) -> Iterator[Check]:
    tasks = dict.fromkeys(name for night in (*nights[-1:], today) for name in night.labels)
    for task in tasks:
        found = today.labels.get(task)
        if found is None:
            yield stated(
                "data.labels", "data", task, "failed",
                f"task {shown(task)} has no labels that can be read; it had on {nights[-1].name}",
                "look at its columns' types, or take the task out of the config",
            )  # fmt: skip
            continue
        if not found.observed:
            yield stated(
                "data.labels", "data", task, "failed",
                f"task {shown(task)}: column {shown(found.column)} has no valid label in "
                f"{today.rows:,} rows{_invalid(found)}",
                "look at the job that joins the labels",
            )  # fmt: skip
            continue
        if limits.both_classes and LABEL_KINDS[found.kind].has_classes:
            yield _class_check(task, found)
        known = [night for night in nights if task in night.labels and night.labels[task].observed]
        if limits.max_label_shift is not None:
            yield _mean_check(limits, task, found, known, limits.max_label_shift)
        if limits.max_observed_shift is not None:
            yield _observed_check(limits, task, today, known, limits.max_observed_shift)


def _class_check(task: str, found: LabelProfile) -> Check:
    positives = found.positives or 0
    one_class = positives in (0, found.observed)
    return stated(
        "data.both_classes", "data", task, "failed" if one_class else "passed",
        f"task {shown(task)}: {positives:,} of {found.observed:,} labels are 1{_invalid(found)}",
        "look at the job that joins the labels",
    )  # fmt: skip


def _invalid(found: LabelProfile) -> str:
    """The labels that no other figure counts: they may be why there are so few."""
    if not found.invalid:
        return ""
    example = found.invalid_example
    shown_one = "" if example is None else f", e.g. {exact(example)}"
    return f"; {found.invalid:,} others are invalid{shown_one}"


def _mean_check(
    limits: DataLimits, task: str, found: LabelProfile, known: Sequence[Profile], most: float
) -> Check:
    means = [float(night.labels[task].mean or 0.0) for night in known]
    mean, spread = float(found.mean or 0.0), float(found.std or 0.0)
    error = spread / math.sqrt(found.observed)
    kind = LABEL_KINDS[found.kind]
    look_at = "look at the labels' source and their join"
    return _shift_check(
        limits, "data.max_label_shift", task, kind.mean, mean, error, means, most,
        kind.has_classes, look_at,
    )  # fmt: skip


def _observed_check(
    limits: DataLimits, task: str, today: Profile, known: Sequence[Profile], most: float
) -> Check:
    shares = [night.labels[task].observed / night.rows for night in known]
    share = today.labels[task].observed / today.rows
    error = math.sqrt(share * (1 - min(share, 1.0)) / today.rows)
    return _shift_check(
        limits, "data.max_observed_shift", task, "share of rows with a label", share, error,
        shares, most, True, "look for labels that did not arrive yet, or a join that lost rows",
    )  # fmt: skip


def _shift_check(
    limits: DataLimits,
    rule: str,
    task: str,
    what: str,
    found: float,
    error: float,
    usual: Sequence[float],
    most: float,
    is_share: bool,
    look_at: str,
) -> Check:
    def text(value: float) -> str:
        return f"{value:.2%}" if is_share else f"{value:.1f}"

    if len(usual) < _LEAST_NIGHTS:
        return stated(
            rule, "data", task, "not_judged",
            f"task {shown(task)}: {what} {text(found)}; fewer than {_LEAST_NIGHTS} nights before "
            "to compare with",
        )  # fmt: skip
    middle = median(usual)
    allowed = max(most * abs(middle), limits.label_spreads * stdev(usual))
    allowed += limits.sampling_errors * error
    low, high = middle - allowed, middle + allowed
    return limited(
        rule, "data", task, found,
        f"task {shown(task)}: {what} {text(found)}, usually {text(middle)} (median of {len(usual)} "
        f"nights); {text(max(low, 0.0))} to {text(high)} is allowed",
        look_at, low=low, high=high,
    )  # fmt: skip
