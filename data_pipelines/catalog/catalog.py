"""The files, row groups and schema of a split: what `scan` finds, the same on every rank."""

from __future__ import annotations

import datetime
import hashlib
import socket
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain

import pyarrow as pa

from data_pipelines.catalog.pinned_schema import hash_of_types
from data_pipelines.catalog.schema_drift import column_types
from data_pipelines.catalog.storage import Storage
from data_pipelines.labels.event_time import TimeSpan


@dataclass(frozen=True)
class DataFile:
    """One Parquet file as it was when it was scanned."""

    path: str
    size: int
    day: datetime.date | None
    """Of the dt=YYYY-MM-DD folder that the file lies in."""
    rows_per_group: tuple[int, ...]
    bytes_per_group: tuple[int, ...]
    """Uncompressed; with `size`, what tells that the file has been replaced since."""
    modified: str | None = None
    """See FileState: tells of a replacement that has the same size and row groups."""
    time: TimeSpan | None = None
    """Of the time column that was asked for."""
    path_values: Mapping[str, str | None] = field(default_factory=dict)
    """Columns that only the path tells (Hive's partitions), as text; see path_columns.py."""


@dataclass(frozen=True)
class Catalog:
    """All files of a split, in reading order. Picklable."""

    storage: Storage
    files: tuple[DataFile, ...]
    schema: pa.Schema
    """The columns of the first file, of types that hold the values of all, without metadata."""
    all_null: frozenset[str]
    """Those of the columns asked for that hold no value, by statistics that are complete."""
    warnings: tuple[str, ...]
    ignored: tuple[str, ...]
    """Paths of files below the folder that are not read."""
    hidden: tuple[str, ...] = ()
    """See Listing."""
    skipped: tuple[str, ...] = ()
    """Paths of bad files that are left out (`ScanRules.on_bad_file`): they stand in `warnings`."""
    not_due: tuple[str, ...] = ()
    """Paths of files that are left out since no label of theirs is due (see due_files.py)."""
    order: tuple[int, ...] | None = None
    """Row groups (counted over all files) in reading order; None: in that of the files."""
    host: str = field(default_factory=socket.gethostname, compare=False)
    """Where it was scanned."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of every file's name, size and row groups, and of the order in which they
        are read if it is another: what a place in the rows means.

        Names count from the folder scanned and times do not count, so that a log may be moved or
        copied as a whole.
        """
        root = self.storage.root.rstrip("/")
        files = [(f.path.removeprefix(root), f.size, f.rows_per_group) for f in self.files]
        what = files if self.order is None else (files, self.order)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    @cached_property
    def rows_per_group(self) -> tuple[int, ...]:
        """Rows of every row group, in reading order."""
        rows = tuple(chain.from_iterable(file.rows_per_group for file in self.files))
        return rows if self.order is None else tuple(rows[group] for group in self.order)

    @cached_property
    def num_rows(self) -> int:
        return sum(self.rows_per_group)

    @cached_property
    def _first_groups(self) -> list[int]:
        return [0, *accumulate(len(file.rows_per_group) for file in self.files)]

    def locate(self, group: int) -> tuple[DataFile, int]:
        """The file of the row group that is read as number `group`, and its number within it."""
        if self.order is not None:
            group = self.order[group]
        index = bisect_right(self._first_groups, group) - 1
        return self.files[index], group - self._first_groups[index]


def schema_hash(catalog: Catalog) -> str:
    """16 hex digits of every column's name and type, in any order."""
    return hash_of_types(column_types(catalog.schema))
