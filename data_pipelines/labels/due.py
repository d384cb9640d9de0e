"""Which labels are due: known for good, and to be learned now. Vectorised over a block's rows.

A label is due at its row's event time + the task's matures_h. In a run over the window
[since, until) a label that is due earlier or later is unobserved, so that over windows that follow
on each other every label is learned once, and never before it is known.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from data_pipelines.labels.event_time import is_time
from marigold_rec.config.due import Due, event_time_of, event_window_us, matures_us
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.schema import Config
from marigold_rec.config.tasks import Task
from marigold_rec.transforms.arrow_types import plain_type
from marigold_rec.transforms.columns import lone_array

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MOST_US = 1 << 61
"""A time beyond it (some 70,000 years) is none; sums of two below it fit into 64 bits."""


def needs_time(config: Config) -> bool:
    """Whether the labels of a split depend on when the rows happened (data.time)."""
    splits = [config.data.train, config.data.eval]
    return any(split is not None and split.due is not None for split in splits) or any(
        event_time_of(task) is not None for task in config.tasks
    )


@dataclass(frozen=True)
class Times:
    """A column of times."""

    us_B: NDArray[np.int64]
    """Microseconds since 1970, UTC; 0 where not known."""
    is_known_B: NDArray[np.bool_]


@dataclass(frozen=True)
class DueLabels:
    """What is left of a task's labels of B rows."""

    labels_B: np.ndarray
    observed_B: NDArray[np.bool_]
    has_no_event_B: NDArray[np.bool_]
    """Observed, 1, and without the time of its event: invalid."""
    counts: dict[str, int]
    """`not_due/<task>`, `late/<task>`: only what occurred."""


class LabelTimes:
    """Judges labels by time, for one split. Stateless, safe in threads."""

    def __init__(self, config: Config, due: Due | None) -> None:
        """`due`: the split's. Raises ValueError without data.time where it is needed."""
        self._unit = config.data.time_unit
        self._due = due
        self._events = {task.name: event_time_of(task) for task in config.tasks}
        self.is_needed = due is not None or any(self._events.values())
        """False: no label depends on times, and no column is read."""
        if self.is_needed and config.data.time is None:
            raise ValueError("data.time: missing; labels become due by the rows' event times")
        self.time = config.data.time if self.is_needed else None
        """Column of the rows' event times, where it is needed."""

    @property
    def columns(self) -> tuple[str, ...]:
        if self.time is None:
            return ()
        return (self.time, *filter(None, self._events.values()))

    def depends(self, task: Task) -> bool:
        """Whether the task's labels depend on their rows' times."""
        return self._due is not None or self._events[task.name] is not None

    def rows(self, table: pa.Table) -> Times:
        """When the rows of `table` happened; only where it `is_needed`."""
        assert self.time is not None, "is_needed says no"
        return times_of(lone_array(table.column(self.time)), self._unit)

    def look(
        self,
        table: pa.Table,
        rows: Times,
        task: Task,
        labels_B: np.ndarray,
        observed_B: NDArray[np.bool_],
    ) -> DueLabels:
        """`observed_B`: where a label counts if it is due. A row without a time has no label."""
        none_B = np.zeros_like(observed_B)
        if not self.depends(task):
            return DueLabels(labels_B, observed_B, none_B, {})
        observed_B = observed_B & rows.is_known_B
        counts: dict[str, int] = {}
        if self._due is not None:
            first, end = event_window_us(task, self._due)
            is_due_B = (rows.us_B >= first) & (rows.us_B < end)
            counts["not_due"] = int(np.count_nonzero(observed_B & ~is_due_B))
            observed_B = observed_B & is_due_B
        has_no_event_B = none_B
        if (column := self._events[task.name]) is not None:
            event = times_of(lone_array(table.column(column)), self._unit)
            is_one_B = observed_B & (labels_B == 1)
            has_no_event_B = is_one_B & ~event.is_known_B
            is_late_B = is_one_B & (event.us_B > rows.us_B + matures_us(task))
            counts["late"] = int(np.count_nonzero(is_late_B & event.is_known_B))
            labels_B = np.where(is_late_B & event.is_known_B, 0.0, labels_B)
        named = {f"{what}/{task.name}": count for what, count in counts.items() if count}
        return DueLabels(labels_B, observed_B, has_no_event_B, named)


def times_of(array: pa.Array, unit: str | None) -> Times:
    """Of a plain array of timestamps, or of integers in `unit`; a null is not known."""
    known = array.is_valid().to_numpy(zero_copy_only=False)
    raw = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    per_second = _PER_SECOND[_unit(array.type, unit)]
    if per_second > 1_000_000:
        us_B = raw // (per_second // 1_000_000)
    else:
        factor = 1_000_000 // per_second
        known = known & (np.abs(raw // 2) < _MOST_US // 2 // factor)  # of -2**63 abs is negative
        us_B = np.where(known, raw, 0) * factor
    known = known & (us_B > -_MOST_US) & (us_B < _MOST_US)
    return Times(np.where(known, us_B, 0), known)


def to_us(value: int, kind: pa.DataType, unit: str | None) -> int:
    """A raw value of a time column of type `kind` as microseconds since 1970."""
    return value * 1_000_000 // _PER_SECOND[_unit(kind, unit)]


def label_time_columns(config: Config) -> tuple[str, ...]:
    """All columns of times that the labels of any split depend on; the rows' own first."""
    if config.data.time is None or not needs_time(config):
        return ()
    return (config.data.time, *filter(None, map(event_time_of, config.tasks)))


def label_time_problems(config: Config, schema: pa.Schema, all_null: Iterable[str]) -> list[str]:
    """A line per column of times that labels depend on and that is not there, or no time."""
    columns = label_time_columns(config)
    if not columns:
        return []
    keys = {f"tasks.{task.name}.event_time": event_time_of(task) for task in config.tasks}
    found = {"data.time": columns[0], **keys}
    lines = (
        _problem(key, column, schema, config.data.time_unit)
        for key, column in found.items()
        if column is not None
    )
    problems = [line for line in lines if line is not None]
    if columns[0] in set(all_null) and not problems:
        problems.append(
            f"data.time: column {columns[0]!r} is null in all rows: when a label is due is not "
            "known; name the column of the rows' event times"
        )
    return problems


def _problem(key: str, column: str, schema: pa.Schema, unit: str | None) -> str | None:
    if column not in schema.names:
        return f"{key}: there is no column {column!r}; {did_you_mean(column, schema.names)}"
    kind = plain_type(schema.field(column).type)
    if not is_time(kind):
        return f"{key}: column {column!r} is {kind}; it must be an integer or a timestamp"
    if not pat.is_timestamp(kind) and unit is None:
        return (
            f"{key}: column {column!r} is {kind}, and its unit is not known: set data.time_unit to "
            "s, ms, us or ns (since 1970, UTC)"
        )
    return None


def _unit(kind: pa.DataType, unit: str | None) -> str:
    found: str | None = kind.unit if pat.is_timestamp(kind) else unit
    if found is None:
        raise ValueError("data.time_unit: missing, and the times are integers")
    return found
