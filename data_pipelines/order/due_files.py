"""Which files of a split hold labels that are due, and the order in which their rows are read.

A night reads its own day, and the older days whose slow labels have become due by now. In the order
of files the early batches would hold nothing but slow labels and the late ones nothing but fast
ones. So row groups are read in the order in which their labels become due: a click of two days ago
whose conversion is due at noon stands beside the clicks of noon.

Pure functions of the catalog, by the statistics in the footers; no row is read.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pyarrow.types as pat

from data_pipelines.catalog.catalog import Catalog, DataFile
from data_pipelines.labels.due import to_us
from marigold_rec.config.data import SplitConfig
from marigold_rec.config.due import Due, days_for_due, due_us, event_window_us, matures_us
from marigold_rec.config.schema import Config
from marigold_rec.config.tasks import Task

_DAY_US = 86_400_000_000
_EPOCH = datetime.date(1970, 1, 1)


def due_files(catalog: Catalog, config: Config, due: Due) -> Catalog:
    """`catalog` without the files in which no label can be due, in the order of due times.

    A file without complete statistics of data.time stays. If nothing is due, all files stay.
    """
    spans = [_span_us(file, config) for file in catalog.files]
    windows = [event_window_us(task, due) for task in config.tasks]
    kept = [i for i, span in enumerate(spans) if span is None or _may_hold(span, windows)]
    if not kept:
        return catalog
    files = tuple(catalog.files[i] for i in kept)
    left_out = tuple(f.path for i, f in enumerate(catalog.files) if i not in set(kept))
    moments = chain.from_iterable(_group_moments(catalog.files[i], spans[i]) for i in kept)
    order = due_order(tuple(moments), config.tasks, due)
    is_files_order = order == tuple(range(len(order)))
    return replace(catalog, files=files, not_due=left_out, order=None if is_files_order else order)


def due_order(moments_us: Sequence[int | None], tasks: Sequence[Task], due: Due) -> tuple[int, ...]:
    """The numbers of the row groups in the order in which their first labels in `due` become due.

    `moments_us`: about when the rows of each row group happened; None (not known) counts as the
    beginning of the window. Equal ones stay in their order.
    """
    starts = [due_moment_us(moment, tasks, due) for moment in moments_us]
    return tuple(sorted(range(len(starts)), key=lambda group: starts[group]))


def due_moment_us(moment_us: int | None, tasks: Sequence[Task], due: Due) -> int:
    """When the first label in `due` of a row of `moment_us` becomes due."""
    since, until = due_us(due)
    if moment_us is None:
        return since
    moments = (moment_us + matures_us(task) for task in tasks)
    inside = [moment for moment in moments if since <= moment < until]
    return min(inside, default=max(since, moment_us))


def due_problems(catalog: Catalog, config: Config, due: Due) -> list[str]:
    """A line if, by the statistics, no label of any task is due in any file."""
    spans = [_span_us(file, config) for file in catalog.files]
    windows = [event_window_us(task, due) for task in config.tasks]
    known = [span for span in spans if span is not None]
    if not known or len(known) < len(spans) or any(_may_hold(span, windows) for span in known):
        return []
    first, last = min(low for low, _ in known), max(high for _, high in known)
    return [
        f"due: no label of any task becomes due from {due[0].isoformat()} to {due[1].isoformat()}: "
        f"by column {config.data.time!r} the rows run from {_shown(first)} to {_shown(last)}; look "
        "at due, dates and data.time_unit"
    ]


def due_warnings(name: str, split: SplitConfig, catalog: Catalog, config: Config) -> list[str]:
    """Of days with due labels that are not read, and of batches that can't mix the days."""
    if split.due is None:
        return []
    warnings: list[str] = []
    first, last = days_for_due(config.tasks, *split.due)
    if split.dates is not None and not split.dates[0] <= first <= last <= split.dates[1]:
        warnings.append(
            f"data.{name}.due: labels that become due in it are of rows from {first} to {last}, "
            f"but data.{name}.dates are {split.dates[0]} to {split.dates[1]}: what the other days "
            "hold is passed over"
        )
    largest = max(catalog.rows_per_group, default=0)
    lanes = len({matures_us(task) for task in config.tasks})
    if catalog.order is not None and 0 < config.data.shuffle_rows < lanes * largest:
        warnings.append(
            f"data.shuffle_rows: {config.data.shuffle_rows:,} rows are less than {lanes} row "
            f"groups (of up to {largest:,} rows), so that rows whose labels are due at the same "
            f"time are not mixed well: raise it to {lanes * largest:,}, or write smaller row groups"
        )
    return warnings


def _may_hold(span: tuple[int, int], windows: Sequence[tuple[int, int]]) -> bool:
    """Whether a file of rows from span[0] to span[1] may hold a row within one of the windows."""
    return any(span[0] < end and first <= span[1] for first, end in windows)


def _span_us(file: DataFile, config: Config) -> tuple[int, int] | None:
    """First and last event time of the file's rows, if the statistics tell."""
    span = file.time
    if span is None or not span.is_complete or span.first is None or span.last is None:
        return None
    unit = config.data.time_unit
    if unit is None and not pat.is_timestamp(span.kind):
        return None  # refused elsewhere
    return to_us(span.first, span.kind, unit), to_us(span.last, span.kind, unit)


def _group_moments(file: DataFile, span: tuple[int, int] | None) -> list[int | None]:
    """About the middle of each row group: as if the file's rows went evenly through its time."""
    if span is None and file.day is not None:
        first = (file.day - _EPOCH).days * _DAY_US
        span = first, first + _DAY_US
    if span is None:
        return [None] * len(file.rows_per_group)
    moments: list[int | None] = []
    total, done = max(1, sum(file.rows_per_group)), 0
    for rows in file.rows_per_group:
        # In halves of a row, so that all is in integers: the same on every machine.
        moments.append(span[0] + (span[1] - span[0]) * (2 * done + rows) // (2 * total))
        done += rows
    return moments


def _shown(us: int) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(us / 1e6, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{us / 31_556_952e6 + 1970:,.0f} (year)"
    return moment.isoformat(timespec="seconds")
