"""verdict.json as types: whether a night is published, why not, and every rule that was looked at.

Keys are only added within a format number; what changes its meaning gets a new one.
"""

from __future__ import annotations

import datetime
from typing import Literal

from marigold_rec.record import Record

VERDICT_FORMAT = 1

Result = Literal["passed", "failed", "not_judged"]
Where = Literal["data", "evaluation", "holdout"]


class Check(Record, allow_inf_nan=False):
    """One rule, held against one task or column."""

    rule: str
    """Of the config, below nightly.gate: data.min_rows_share, say."""
    on: Where
    """What was judged: the data, or one of the two reports."""
    about: str | None = None
    """Task or column, as text and never markup; null: all rows."""
    result: Result
    found: float | None = None
    found_low: float | None = None
    """Of the interval, where it counts."""
    found_high: float | None = None
    limit_low: float | None = None
    """What is found may not be below."""
    limit_high: float | None = None
    """What is found may not be above."""
    sentence: str
    """The same for people; a failed one says what to look at."""


class Verdict(Record, allow_inf_nan=False):
    format: Literal[1] = VERDICT_FORMAT
    stage: Literal["data", "night"]
    """data: before the training, of the profiles alone; night: of everything."""
    publish: bool
    """stage data: whether training is worth its time."""
    is_first: bool
    """No published model to compare with: only fixed limits."""
    dates: tuple[datetime.date, datetime.date] | None
    """Of the new days."""
    reasons: tuple[str, ...]
    """The sentences of the failed checks."""
    checks: tuple[Check, ...]


def limited(
    rule: str,
    on: Where,
    about: str | None,
    found: float,
    sentence: str,
    look_at: str,
    *,
    low: float | None = None,
    high: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Check:
    """A check of `found`, or of its whole interval, against limits that belong to what is allowed.

    `look_at` is said only where it fails.
    """
    least, greatest = (found, found) if interval is None else interval
    is_low = low is not None and greatest < low
    is_high = high is not None and least > high
    failed = is_low or is_high
    return Check(
        rule=rule,
        on=on,
        about=about,
        result="failed" if failed else "passed",
        found=found,
        found_low=None if interval is None else interval[0],
        found_high=None if interval is None else interval[1],
        limit_low=low,
        limit_high=high,
        sentence=f"{sentence}; {look_at}" if failed else sentence,
    )


def stated(
    rule: str, on: Where, about: str | None, result: Result, sentence: str, look_at: str = ""
) -> Check:
    """A check without numbers, or one that could not be made."""
    failed = result == "failed" and look_at
    return Check(
        rule=rule,
        on=on,
        about=about,
        result=result,
        sentence=f"{sentence}; {look_at}" if failed else sentence,
    )
