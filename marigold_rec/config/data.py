"""Where the rows are, and how they are read: the section `data`."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from marigold_rec.config.section import Section


def _moment(text: object) -> object:
    try:
        return datetime.datetime.fromisoformat(text) if isinstance(text, str) else text
    except ValueError:
        return text  # no datetime: refused as that


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=datetime.UTC)
    return moment.astimezone(datetime.UTC)


Moment = Annotated[datetime.datetime, BeforeValidator(_moment), AfterValidator(_in_utc)]
"""2024-01-05 (its first moment) or 2024-01-05T06:00:00Z; without a time zone it is UTC."""


class SplitConfig(Section):
    path: str | None = None
    """Overrides data.path for this split."""
    dates: tuple[datetime.date, datetime.date] | None = None
    """First and last day (both included) of Hive-style dt=YYYY-MM-DD folders."""
    due: tuple[Moment, Moment] | None = None
    """[since, until), UTC: only labels that become due in it (event time + the task's matures_h)
    count, the others are unobserved; null: all count."""

    @model_validator(mode="after")
    def _ordered(self) -> SplitConfig:
        if self.due is not None and self.due[0] >= self.due[1]:
            since, until = (moment.isoformat() for moment in self.due)
            raise ValueError(f"due must rise: since {since} is not before until {until}")
        if self.dates is not None and self.dates[0] > self.dates[1]:
            raise ValueError(
                f"dates run backwards: {self.dates[0]} is after {self.dates[1]}; swap them"
            )
        return self


class SyntheticConfig(Section):
    """The embedded click log with known truth, made on first use when data.path is null."""

    days: int = Field(default=6, ge=1, le=366)
    """From 2024-01-01 on."""
    rows_per_day: int = Field(default=40_000, ge=100, le=20_000_000)
    """One day fits in memory."""
    users: int = Field(default=20_000, ge=10)
    """On the first day; see cold_share."""
    items: int = Field(default=4_000, ge=10)
    """On the first day; see cold_share."""
    seed: int = Field(default=1, ge=0)
    click_rate: float = Field(default=0.2, gt=0, lt=1)
    """Expected share on the first day."""
    conversion_rate: float = Field(default=0.25, gt=0, lt=1)
    """Of clicked rows, in the end; expected on the first day."""
    conversion_delay_h: float = Field(default=12.0, gt=0)
    """Mean of the exponential time from click to conversion."""
    cold_share: float = Field(default=0.02, ge=0, le=1)
    """New items (users) each day, as a share of items (users)."""
    conflict: float = Field(default=0.0, ge=0, le=1)
    """Correlation of the factors of click and conversion: 0.5 - 1.5 * conflict."""


class DataConfig(Section):
    path: str | None = None
    """Folder or any fsspec URL of Parquet files; null, and no split has a path of its own: the
    embedded synthetic log."""
    synthetic: SyntheticConfig = SyntheticConfig()
    train: SplitConfig = SplitConfig()
    eval: SplitConfig | None = None
    batch_size: int = Field(default=2048, ge=1)
    """Rows per rank and step."""
    eval_batch_size: int | None = Field(default=None, ge=1)
    """null: the same as batch_size."""
    shuffle_rows: int = Field(default=65_536, ge=0)
    """Rows per rank that are shuffled together, window by window through the days; 0: file order.
    Row groups larger than this make the windows larger (two groups per rank)."""
    weight: str | None = None
    """Column of per-row loss weights (>= 0)."""
    verify_checksums: bool = True
    reader_threads: int = Field(default=1, ge=1, le=64)
    max_invalid_labels: float = Field(default=0.01, ge=0.0, le=1.0)
    """Refuse the data when more than this share of a task's labels (or of the weights) is invalid,
    over the rows that a rank has read."""
    # Not `schema`: pydantic's models have a method of that name.
    schema_file: str | None = None
    """Schema that every file is held against (data_pipelines.validate writes one); null: the first
    file's."""
    on_bad_file: Literal["fail", "skip"] = "fail"
    """A file whose footer can't be read or whose schema does not fit, at the start. Damage inside a
    row group, met while training, always fails: every rank's rows are fixed by then."""
    max_skipped_files: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of a split's files that may be skipped."""
    time: str | None = None
    """Column of when a row happened (integer or timestamp): evaluation must begin after training
    has ended, by the statistics in the footers; and labels become due by it."""
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    """Of integer columns of times, which count from 1970 in UTC; needed where labels become due by
    them. Timestamps have their own (without a time zone they are UTC)."""
    allow_time_overlap: bool = False
