"""Profiles and reports made by hand, so that a rule's limit can be met exactly."""

from __future__ import annotations

import datetime
from typing import Any

from marigold_rec.analysis.report import Figure, Report, TaskReport
from marigold_rec.profile import (
    ColumnProfile,
    LabelProfile,
    Numbers,
    Profile,
    Values,
)
from tests.reporting.example import example

MONDAY = datetime.date(2024, 1, 1)


def category(shares: dict[str, float], count: int = 1_000_000, **changes: Any) -> ColumnProfile:
    """All its values are listed."""
    top = sorted(shares.items(), key=lambda entry: -entry[1])
    fields: dict[str, Any] = {
        "type": "string",
        "roles": ("category",),
        "nulls": 0,
        "count": count,
        "distinct": len(shares),
        "distinct_is_exact": True,
        "numbers": None,
        "values": Values(top=tuple(top), rest=0.0, sampled=min(count, 100_000)),
    }
    return ColumnProfile(**fields | changes)


def number(mean: float, count: int = 1_000_000, **changes: Any) -> ColumnProfile:
    """Evenly spread from 0 to twice the mean."""
    quantiles = tuple(2 * mean * step / 100 for step in range(101))
    numbers = Numbers(
        count=count,
        mean=mean,
        std=mean / 3**0.5,
        least=0.0,
        greatest=2 * mean,
        quantiles=quantiles,
        sampled=min(count, 100_000),
    )
    fields: dict[str, Any] = {
        "type": "float",
        "roles": ("number",),
        "nulls": 0,
        "count": count,
        "distinct": count,
        "distinct_is_exact": False,
        "numbers": numbers,
        "values": Values(top=(("1", 1e-6),), rest=1 - 1e-6, sampled=min(count, 100_000)),
    }
    return ColumnProfile(**fields | changes)


def label(rate: float, observed: int = 1_000_000, **changes: Any) -> LabelProfile:
    fields: dict[str, Any] = {
        "kind": "binary",
        "column": "click",
        "observed": observed,
        "invalid": 0,
        "mean": rate,
        "std": (rate * (1 - rate)) ** 0.5,
        "positives": round(rate * observed),
    }
    return LabelProfile(**fields | changes)


def night(day: int, rows: int = 1_000_000, **changes: Any) -> Profile:
    """Of the day `day` after Monday, 1 January 2024."""
    date = MONDAY + datetime.timedelta(days=day)
    fields: dict[str, Any] = {
        "path": "/log",
        "dates": (date, date),
        "files": 1,
        "rows": rows,
        "fingerprint": f"{day:016x}",
        "columns": {
            "country": category({"BR": 0.6, "PT": 0.3, "JP": 0.1}, rows),
            "price": number(10.0, rows),
        },
        "missing": (),
        "labels": {"ctr": label(0.2, rows)},
    }
    return Profile(**fields | changes)


def figure(value: float, delta: float | None = None, half: float = 0.0) -> Figure:
    """Intervals of +- `half`; none where it is 0."""
    fields: dict[str, Any] = {"value": value}
    if half:
        fields |= {"low": value - half, "high": value + half}
    if delta is not None:
        fields |= {"baseline": value - delta, "delta": delta}
        if half:
            fields |= {"delta_low": delta - half, "delta_high": delta + half}
    return Figure(**fields)


def report(is_first: bool = False, **figures: Figure) -> Report:
    """One yes/no task, ctr, with these figures beside good ones."""
    whole = example()
    good = {
        "auc": figure(0.7, None if is_first else 0.0),
        "ne": figure(0.9, None if is_first else 0.0),
        "calibration": figure(1.0, None if is_first else 0.0),
    }
    ctr = task(whole, figures=good | figures)
    return example(tasks=(ctr,), slices=(), **({"baseline": None} if is_first else {}))


def task(whole: Report, **changes: Any) -> TaskReport:
    ctr = whole.tasks[0]
    # The same histogram twice: no drift of scores.
    return ctr.model_copy(update={"baseline_curves": ctr.curves} | changes)
