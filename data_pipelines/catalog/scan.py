"""Reads the footers of a split's files, once (on rank 0): the catalog that all ranks get."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from data_pipelines.catalog.bad_files import OnBadFile, judge_files, refuse_or_skip
from data_pipelines.catalog.catalog import Catalog, DataFile
from data_pipelines.catalog.footers import Footer, read_footers
from data_pipelines.catalog.listing import Dates, list_files
from data_pipelines.catalog.null_columns import NullColumns
from data_pipelines.catalog.pinned_schema import PinnedSchema
from data_pipelines.catalog.schema_drift import common_schema
from data_pipelines.catalog.storage import ListedFile, Storage
from marigold_rec.parquet.path_columns import only_in_path, type_of_path_values

_HUGE_GROUP_ROWS = 4_000_000


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
