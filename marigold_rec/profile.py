"""A profile: what is kept of the data of some days, so that later nights can be held against it.

A few kilobytes per column. `data_pipelines.profile` makes them; keys are only added within a format
number.
"""

from __future__ import annotations

import datetime
from functools import cached_property
from typing import Literal

from marigold_rec.config.label_kinds import Kind
from marigold_rec.record import Record

PROFILE_FORMAT = 1

Role = Literal["category", "number", "label", "weight", "time"]
"""What the config reads a column as: category is an id or word of a sparse feature."""


class Numbers(Record, allow_inf_nan=False):
    """Summarizes the finite values of a column of numbers, or the lengths of lists."""

    count: int
    mean: float
    std: float
    """Of the values themselves: divided by count, not count - 1."""
    least: float
    greatest: float
    quantiles: tuple[float, ...]
    """At equal steps from 0 to 1, rising; from the sampled values."""
    sampled: int
    """Values that the quantiles are of."""


class Values(Record, allow_inf_nan=False):
    """Holds the most frequent values; those of a list column are its elements."""

    top: tuple[tuple[str, float], ...]
    """(value as text, share of the sampled values), the most frequent first."""
    rest: float
    """Share of all other values."""
    sampled: int
    """Values that the shares are of."""


class ColumnProfile(Record, allow_inf_nan=False):
    type: str
    roles: tuple[Role, ...]
    nulls: int
    """Rows without a value, NaN too. Exact."""
    count: int
    """Values; of a list column its elements. Exact."""
    distinct: int
    """Different values; an estimate unless distinct_is_exact."""
    distinct_is_exact: bool
    numbers: Numbers | None
    """null for text and lists."""
    values: Values | None
    """null where there is no value."""
    lengths: Numbers | None = None
    """Of lists: their lengths."""


class LabelProfile(Record, allow_inf_nan=False):
    """A task's valid labels: observed, and of the kind that the task takes. Exact."""

    kind: Kind
    column: str
    observed: int
    invalid: int
    """Observed, but not 0 or 1, say; in no other figure here."""
    invalid_example: float | None = None
    """The first of them."""
    mean: float | None
    """Share of positives, or seconds."""
    std: float | None
    positives: int | None
    """null for a watch time."""


class Content(Record, allow_inf_nan=False):
    """Identifies the rows of a day, in whatever order: tells what two days share."""

    digest: str
    """Equal where the rows are, as often as they occur."""
    distinct: int
    """Different rows; an estimate from some thousand on."""
    smallest_hashes: tuple[int, ...]
    """Of the different rows, rising: of two days, those in both tell the share."""


class EventHours(Record, allow_inf_nan=False):
    """Counts the rows by the hour in which they happened (data.time)."""

    column: str
    rows: tuple[tuple[int, int], ...]
    """(whole hours since the first day's midnight, UTC; rows). Beyond -100 and 100 after the last
    day all fall together. Rows without a time are left out."""


class Profile(Record, allow_inf_nan=False):
    format: Literal[1] = PROFILE_FORMAT
    path: str
    dates: tuple[datetime.date, datetime.date] | None
    files: int
    rows: int
    """Exact."""
    fingerprint: str
    """Of the files: another one, another content."""
    columns: dict[str, ColumnProfile]
    """Those that the config reads; sorted."""
    missing: tuple[str, ...]
    """Columns that the config reads and nobody wrote."""
    labels: dict[str, LabelProfile]
    """By task; none where it can't be read."""
    content: Content | None = None
    """null in older profiles."""
    event_hours: EventHours | None = None
    """null without data.time, dates, or a known unit."""

    @cached_property
    def num_days(self) -> int:
        return 1 if self.dates is None else (self.dates[1] - self.dates[0]).days + 1

    @cached_property
    def rows_per_day(self) -> float:
        return self.rows / self.num_days

    @property
    def name(self) -> str:
        """The days, as people write them."""
        if self.dates is None:
            return self.path
        first, last = self.dates
        return f"{first}" if first == last else f"{first} to {last}"

    def null_share(self, column: str) -> float:
        return self.columns[column].nulls / self.rows if self.rows else 0.0
