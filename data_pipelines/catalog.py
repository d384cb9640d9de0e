"""The files, row groups and schema of a split, read once (on rank 0) and sent to all ranks.

`scan` reads it, `check_data` holds it against the config before training starts.
"""

from __future__ import annotations

import datetime
import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

import pyarrow as pa
import pyarrow.types as pat

from data_pipelines.footers import Footer, read_footers
from data_pipelines.listing import Dates, ListedFile, list_files
from data_pipelines.schema_drift import schema_drift
from data_pipelines.storage import Storage
from marigold_rec.config import Config, resolve_tables
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.errors import DataError
from marigold_rec.transforms import FeatureTransforms, plain_type

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


@dataclass(frozen=True)
class Catalog:
    """All files of a split, in reading order. Picklable."""

    storage: Storage
    files: tuple[DataFile, ...]
    schema: pa.Schema
    """Of the first file, without metadata; the other files hold the same columns."""
    nulls: dict[str, int]
    """Column -> nulls in all files, of the columns asked for whose statistics are complete."""
    warnings: tuple[str, ...]
    ignored: tuple[str, ...]
    """Paths of files below the folder that are not read."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of every file's name, size and row groups: what a place in the rows means.

        Names count from the folder scanned, so that a log may be moved as a whole.
        """
        root = self.storage.root.rstrip("/")
        files = [(f.path.removeprefix(root), f.size, f.rows_per_group) for f in self.files]
        return hashlib.sha256(repr(files).encode()).hexdigest()[:16]

    @cached_property
    def rows_per_group(self) -> tuple[int, ...]:
        """Rows of every row group, over all files in order."""
        return tuple(chain.from_iterable(file.rows_per_group for file in self.files))

    @cached_property
    def num_rows(self) -> int:
        return sum(self.rows_per_group)

    @cached_property
    def _first_groups(self) -> list[int]:
        return [0, *accumulate(len(file.rows_per_group) for file in self.files)]

    def locate(self, group: int) -> tuple[DataFile, int]:
        """The file of row group `group` (counted over all files), and its number within it."""
        index = bisect_right(self._first_groups, group) - 1
        return self.files[index], group - self._first_groups[index]


def scan(path: str, dates: Dates | None = None, columns: Sequence[str] | None = None) -> Catalog:
    """Reads all footers below `path` (a file, a folder, or any fsspec URL of one).

    `dates`: first and last day (both included) of dt=YYYY-MM-DD folders. `columns`: those that will
    be read: their nulls are counted, and drift of any other column is only a warning (None: every
    column counts as needed, no nulls are counted).

    Raises DataError: no files, a day without files, broken files (all of them), schema drift.
    """
    storage = Storage(path)
    listing = list_files(storage, dates)
    footers = read_footers(storage, listing.files, columns or ())
    warnings = _check_drift(listing.files, footers, columns)
    files = tuple(
        DataFile(file.path, file.size, file.day, footer.rows_per_group, footer.bytes_per_group)
        for file, footer in zip(listing.files, footers, strict=True)
    )
    warnings += [
        f"{file.path}: a row group of {max(file.rows_per_group):,} rows is held in memory whole; "
        f"write row groups of at most {_HUGE_GROUP_ROWS:,} rows"
        for file in files
        if max(file.rows_per_group, default=0) > _HUGE_GROUP_ROWS
    ]
    nulls = {
        name: sum(footer.nulls[name] for footer in footers)
        for name in columns or ()
        if all(name in footer.nulls for footer in footers)
    }
    return Catalog(storage, files, footers[0].schema, nulls, tuple(warnings), listing.ignored)


def _check_drift(
    files: Sequence[ListedFile], footers: Sequence[Footer], columns: Sequence[str] | None
) -> list[str]:
    """Warnings about drift. Raises DataError with every error line."""
    needed = None if columns is None else set(columns)
    errors: list[str] = []
    warnings: list[str] = []
    for file, footer in zip(files[1:], footers[1:], strict=True):
        if footer.schema.equals(footers[0].schema):
            continue
        found = schema_drift(file.path, footer.schema, files[0].path, footers[0].schema, needed)
        errors += found[0]
        warnings += found[1]
    if errors:
        raise DataError([*errors, "write these files again alike, or move them away"])
    return warnings


def needed_columns(config: Config) -> tuple[str, ...]:
    """Every column that training on `config` reads, each once: give them to `scan`."""
    names = [feature.source for feature in config.features]
    for task in config.tasks:
        names += [task.label] if task.observed_if is None else [task.label, task.observed_if]
    if config.data.weight is not None:
        names.append(config.data.weight)
    return tuple(dict.fromkeys(names))


def check_data(catalog: Catalog, config: Config) -> list[str]:
    """One line per problem; [] if the split fits the config.

    A label that is null in every row is found only if `catalog` was scanned with its column and
    the files carry null counts.
    """
    transforms = FeatureTransforms(config.features, resolve_tables(config.sparse_features))
    problems = transforms.check_types(catalog.schema)
    for task in config.tasks:
        problems += _number_problems(f"tasks.{task.name}.label", task.label, catalog.schema)
        if task.observed_if is not None:
            key = f"tasks.{task.name}.observed_if"
            problems += _number_problems(key, task.observed_if, catalog.schema)
        if catalog.num_rows and catalog.nulls.get(task.label) == catalog.num_rows:
            problems.append(
                f"tasks.{task.name}.label: column {task.label!r} is null in all "
                f"{catalog.num_rows:,} rows; there is nothing to learn from or to be judged by"
            )
    if config.data.weight is not None:
        problems += _number_problems("data.weight", config.data.weight, catalog.schema)
    return problems


def _number_problems(key: str, column: str, schema: pa.Schema) -> list[str]:
    if column not in schema.names:
        return [f"{key}: there is no column {column!r}; {did_you_mean(column, schema.names)}"]
    kind = plain_type(schema.field(column).type)
    if pat.is_integer(kind) or pat.is_floating(kind) or pat.is_boolean(kind):
        return []
    return [f"{key}: column {column!r} is {kind}; it must be a number or a boolean"]
