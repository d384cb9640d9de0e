"""A profile: what is kept of the data of some days, so that later nights can be held against it.

A few kilobytes per column. `data_pipelines.profile` makes them; keys are only added within a format
number.
"""

from __future__ import annotations

import datetime
import json
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from marigold_rec.config.label_kinds import Kind

PROFILE_FORMAT = 1

Role = Literal["category", "number", "label", "weight", "time"]
"""What the config reads a column as: category is an id or word of a sparse feature."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Numbers(_Part):
    """Of the finite values of a column of numbers, or of the lengths of lists."""

    count: int
    mean: float
    std: float = Field(description="Of the values themselves: divided by count, not count - 1.")
    least: float
    greatest: float
    quantiles: tuple[float, ...] = Field(
        description="At equal steps from 0 to 1, rising; from the sampled values."
    )
    sampled: int = Field(description="Values that the quantiles are of.")


class Values(_Part):
    """The most frequent values. Of a list column: of its elements."""

    top: tuple[tuple[str, float], ...] = Field(
        description="(value as text, share of the sampled values), the most frequent first."
    )
    rest: float = Field(description="Share of all other values.")
    sampled: int = Field(description="Values that the shares are of.")


class ColumnProfile(_Part):
    type: str
    roles: tuple[Role, ...]
    nulls: int = Field(description="Rows without a value, NaN too. Exact.")
    count: int = Field(description="Values; of a list column its elements. Exact.")
    distinct: int = Field(description="Different values; an estimate unless distinct_is_exact.")
    distinct_is_exact: bool
    numbers: Numbers | None = Field(description="null for text and lists.")
    values: Values | None = Field(description="null where there is no value.")
    lengths: Numbers | None = Field(default=None, description="Of lists: their lengths.")


class LabelProfile(_Part):
    """A task's valid labels: observed, and of the kind that the task takes. Exact."""

    kind: Kind
    column: str
    observed: int
    invalid: int = Field(description="Observed, but not 0 or 1, say; in no other figure here.")
    invalid_example: float | None = Field(default=None, description="The first of them.")
    mean: float | None = Field(description="Share of positives, or seconds.")
    std: float | None
    positives: int | None = Field(description="null for a watch time.")


class Content(_Part):
    """Of all rows, by the features' and labels' columns, in whatever order: what days share."""

    digest: str = Field(description="Equal where the rows are, as often as they occur.")
    distinct: int = Field(description="Different rows; an estimate from some thousand on.")
    smallest_hashes: tuple[int, ...] = Field(
        description="Of the different rows, rising: of two days, those in both tell the share."
    )


class EventHours(_Part):
    """When the rows happened, by data.time."""

    column: str
    rows: tuple[tuple[int, int], ...] = Field(
        description="(whole hours since the first day's midnight, UTC; rows). Beyond "
        "-100 and 100 after the last day all fall together. Rows without a time are left out."
    )


class Profile(_Part):
    format: Literal[1] = PROFILE_FORMAT
    path: str
    dates: tuple[datetime.date, datetime.date] | None
    files: int
    rows: int = Field(description="Exact.")
    fingerprint: str = Field(description="Of the files: another one, another content.")
    columns: dict[str, ColumnProfile] = Field(description="Those that the config reads; sorted.")
    missing: tuple[str, ...] = Field(description="Columns that the config reads and nobody wrote.")
    labels: dict[str, LabelProfile] = Field(description="By task; none where it can't be read.")
    content: Content | None = Field(default=None, description="null in older profiles.")
    event_hours: EventHours | None = Field(
        default=None, description="null without data.time, dates, or a known unit."
    )

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

    def json_text(self) -> str:
        """The same profile, the same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
