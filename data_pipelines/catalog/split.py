"""The files, row groups and schema of a split, read once (on rank 0) and sent to all ranks.

`scan` reads it, `check_data` holds it against the config before training starts.
"""

from __future__ import annotations

import datetime
import hashlib
import socket
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, chain

import pyarrow as pa
import pyarrow.types as pat

from data_pipelines.catalog.bad_files import OnBadFile, judge_files, refuse_or_skip
from data_pipelines.catalog.footers import Footer, read_footers
from data_pipelines.catalog.listing import Dates, ListedFile, list_files
from data_pipelines.catalog.null_columns import NullColumns
from data_pipelines.catalog.pinned_schema import PinnedSchema, hash_of_types
from data_pipelines.catalog.schema_drift import column_types, common_schema
from data_pipelines.catalog.storage import Storage
from data_pipelines.labels.due import label_time_columns, label_time_problems
from data_pipelines.labels.event_time import TimeSpan
from marigold_rec.config import Config
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.parquet.path_columns import only_in_path, type_of_path_values
from marigold_rec.transforms import FeatureTransforms, plain_type
from marigold_rec.transforms.arrow_types import is_number

_HUGE_GROUP_ROWS = 4_000_000


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
class ScanRules:
    """What a scan does beyond finding the files; the fields of `data` that it follows."""

    on_bad_file: OnBadFile = "fail"
    max_skipped_files: float = 0.01
    pinned: PinnedSchema | None = None
    time: str | None = None
    """Column whose span is read from the statistics."""
    path_columns: frozenset[str] = frozenset()
    """Columns that may come from the path, beside those that will be read."""
    path_texts: frozenset[str] = frozenset()
    """Columns that are text, should they come from the path, whatever they look like."""


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


def scan(
    path: str,
    dates: Dates | None = None,
    columns: Sequence[str] | None = None,
    rules: ScanRules = ScanRules(),
) -> Catalog:
    """Reads all footers below `path` (a file, a folder, or any fsspec URL of one).

    `dates`: first and last day (both included) of dt=YYYY-MM-DD folders. `columns`: those that will
    be read: it is noticed which have no value, and drift of any other column is only a warning
    (None: every column counts as needed, no nulls are looked for).

    Raises DataError: no files, a day without files, broken files (all of them), schema drift.
    """
    storage = Storage(path)
    listing = list_files(storage, dates)
    nulls = NullColumns(columns or ())
    footers = read_footers(storage, listing.files, columns or (), nulls, rules.time)
    footers, path_values = _with_path_columns(
        listing.files, footers, {*(columns or ()), *rules.path_columns}, rules
    )
    # Drift of the time column would make two splits' times incomparable.
    needed = None if columns is None else {*columns, *filter(None, [rules.time])}
    judged = judge_files(listing.files, footers, needed, rules.pinned)
    refuse_or_skip(judged, listing.files, rules.on_bad_file, rules.max_skipped_files)
    files = tuple(
        DataFile(
            path=file.path,
            size=file.size,
            day=file.day,
            rows_per_group=footer.rows_per_group,
            bytes_per_group=footer.bytes_per_group,
            modified=file.modified,
            time=footer.time,
            path_values=path_values.get(file.path, {}),
        )
        for file, footer in judged.good
    )
    warnings = [*listing.warnings]
    warnings += [f"skipped: {line}" for lines in judged.bad.values() for line in lines]
    warnings += judged.warnings
    warnings += [
        f"{file.path}: a row group of {max(file.rows_per_group):,} rows is held in memory whole; "
        f"write row groups of at most {_HUGE_GROUP_ROWS:,} rows"
        for file in files
        if max(file.rows_per_group, default=0) > _HUGE_GROUP_ROWS
    ]
    return Catalog(
        storage,
        files,
        common_schema([footer.schema for _, footer in judged.good]),
        nulls.candidates,
        tuple(warnings),
        listing.ignored,
        listing.hidden,
        tuple(judged.bad),
    )


def _with_path_columns(
    files: Sequence[ListedFile],
    footers: Sequence[Footer | str],
    wanted: Collection[str],
    rules: ScanRules,
) -> tuple[list[Footer | str], dict[str, dict[str, str | None]]]:
    """The footers with such of the `wanted` columns as only the paths tell, and their values by
    path. A column has one type in all files."""
    values: dict[str, dict[str, str | None]] = {}
    for file, footer in zip(files, footers, strict=True):
        if not isinstance(footer, str):
            values[file.path] = only_in_path(file.path, footer.schema.names, wanted)
    kinds: dict[str, pa.DataType] = {}
    for name in sorted({name for found in values.values() for name in found}):
        of_name = [found[name] for found in values.values() if name in found]
        kinds[name] = type_of_path_values(of_name)
        pinned = {} if rules.pinned is None else rules.pinned.types
        if name in rules.path_texts or pinned.get(name) == str(pa.string()):
            kinds[name] = pa.string()
    completed = [
        footer
        if isinstance(footer, str)
        else replace(
            footer,
            schema=pa.schema([*footer.schema, *((n, kinds[n]) for n in sorted(values[file.path]))]),
        )
        for file, footer in zip(files, footers, strict=True)
    ]
    return completed, values


def needed_columns(config: Config) -> tuple[str, ...]:
    """Every column that training on `config` reads, each once: give them to `scan`."""
    names = [column for feature in config.features for column in feature.columns]
    for task in config.tasks:
        names += [task.label] if task.observed_if is None else [task.label, task.observed_if]
    if config.data.weight is not None:
        names.append(config.data.weight)
    names += label_time_columns(config)
    return tuple(dict.fromkeys(names))


def check_data(catalog: Catalog, config: Config) -> list[str]:
    """One line per problem; [] if the split fits the config.

    A label that is null in every row is found only if `catalog` was scanned with its column and
    the files carry null counts.
    """
    transforms = FeatureTransforms(config.features, config.tables)
    problems = transforms.check_types(catalog.schema)
    for task in config.tasks:
        problems += _number_problems(f"tasks.{task.name}.label", task.label, catalog.schema)
        if task.observed_if is not None:
            key = f"tasks.{task.name}.observed_if"
            problems += _number_problems(key, task.observed_if, catalog.schema)
        if catalog.num_rows and task.label in catalog.all_null:
            problems.append(
                f"tasks.{task.name}.label: column {task.label!r} is null in all "
                f"{catalog.num_rows:,} rows; there is nothing to learn from or to be judged by"
            )
    if config.data.weight is not None:
        problems += _number_problems("data.weight", config.data.weight, catalog.schema)
    all_null = catalog.all_null if catalog.num_rows else ()
    return problems + label_time_problems(config, catalog.schema, all_null)


def _number_problems(key: str, column: str, schema: pa.Schema) -> list[str]:
    if column not in schema.names:
        return [f"{key}: there is no column {column!r}; {did_you_mean(column, schema.names)}"]
    kind = plain_type(schema.field(column).type)
    if is_number(kind) or pat.is_boolean(kind) or pat.is_null(kind):
        return []
    return [f"{key}: column {column!r} is {kind}; it must be a number or a boolean"]
