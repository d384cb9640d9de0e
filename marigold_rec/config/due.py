"""When labels become due, and on which days their rows lie: arithmetic of times, no data.

A label is due `matures_h` hours after its row's event time. A window [since, until) of due times is
therefore another window of event times for each task. Times are microseconds since 1970, UTC.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from marigold_rec.config.tasks import Task

Due = tuple[datetime.datetime, datetime.datetime]
"""[since, until), both with a time zone; as SplitConfig.due holds it."""

_HOUR_US = 3_600_000_000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def matures_us(task: Task) -> int:
    """Microseconds from the event to when its label is due."""
    return round(task.matures_h * _HOUR_US)


def due_us(due: Due) -> tuple[int, int]:
    """(since, until)."""
    since, until = ((moment - _EPOCH) // _MICROSECOND for moment in due)
    return since, until


def event_window_us(task: Task, due: Due) -> tuple[int, int]:
    """[first, end) of the event times whose label of `task` is due within `due`."""
    since, until = due_us(due)
    return since - matures_us(task), until - matures_us(task)


def days_for_due(
    tasks: Iterable[Task], since: datetime.datetime, until: datetime.datetime
) -> tuple[datetime.date, datetime.date]:
    """First and last UTC day of the rows that have a label due in [since, until).

    What `dates` must span where `due` is (since, until). `since` < `until`, both with a time zone.
    """
    windows = [event_window_us(task, (since, until)) for task in tasks]
    first, end = min(first for first, _ in windows), max(end for _, end in windows)
    return _day(first), _day(end - 1)


def event_time_of(task: Task) -> str | None:
    """The column of when the label's event happened, for the tasks that have one."""
    return getattr(task, "event_time", None)  # not every kind of label is an event


def _day(us: int) -> datetime.date:
    return (_EPOCH + us * _MICROSECOND).date()
