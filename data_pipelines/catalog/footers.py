"""Reads the footers of all files, once and in parallel: rows, schema, nulls and times."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from data_pipelines.catalog.null_columns import NullColumns
from data_pipelines.catalog.storage import ListedFile, Storage
from data_pipelines.labels.event_time import TimeSpan, file_span
from marigold_rec.parquet.column_chunks import ColumnChunk, column_chunks
from marigold_rec.parquet.limits import NO_KEYS, rows_problem, size_problems
from marigold_rec.parquet.opening import is_encrypted
from marigold_rec.transforms.arrow_types import plain_type

# Footers are small: waiting for the storage is what takes time.
_THREADS = 16


@dataclass(frozen=True)
class Footer:
    """What a split's plan needs to know of one file."""

    rows_per_group: tuple[int, ...]
    bytes_per_group: tuple[int, ...]
    """Uncompressed."""
    schema: pa.Schema
    time: TimeSpan | None
    """Of the time column asked for; None without one."""


def read_footers(
    storage: Storage,
    files: Sequence[ListedFile],
    columns: Collection[str],
    nulls: NullColumns,
    time: str | None,
) -> list[Footer | str]:
    """The footer of each file, or what is wrong with the file: the caller judges all at once.

    `columns`: those that will be read. `nulls` is shown every file that it asks for; `time`: the
    column whose span is wanted.
    """
    with ThreadPoolExecutor(min(_THREADS, len(files))) as pool:
        return list(pool.map(lambda file: _read(storage, file, columns, nulls, time), files))


def _read(
    storage: Storage,
    file: ListedFile,
    columns: Collection[str],
    nulls: NullColumns,
    time: str | None,
) -> Footer | str:
    if file.problem is not None:
        return f"{file.path}: {file.problem}"
    if file.size == 0:
        return f"{file.path}: 0 bytes"
    where = f"{file.path}: {file.size:,} bytes, no readable Parquet footer"
    try:
        with storage.open_parquet(file.path) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        rows = tuple(group.num_rows for group in groups)
        sizes = tuple(group.total_byte_size for group in groups)
        if problem := _contradiction(metadata, schema, rows, sizes):
            return f"{where} ({problem})"
        if problem := rows_problem(metadata, file.size):
            return f"{file.path}: {problem}"
        span = None
        # All that is known before a file is decoded, when it is looked at so closely again.
        if nulls.candidates or time is not None:
            chunks = column_chunks(partial(storage.read, file.path), file.size, metadata)
            if problems := size_problems(chunks, metadata, file.size, columns):
                return f"{file.path}: {'; '.join(problems)}"
            nulls.look(chunks)
            span = None if time is None else _span(chunks, rows, schema, time)
    # A storage library may raise anything of its own; a damaged name is a UnicodeDecodeError.
    except Exception as error:
        if _is_encrypted(storage, file):
            return f"{file.path}: is encrypted{NO_KEYS}"
        return f"{where} ({error})"
    return Footer(rows, sizes, schema.remove_metadata(), span)


def _is_encrypted(storage: Storage, file: ListedFile) -> bool:
    with contextlib.suppress(Exception):  # it is broken already
        return is_encrypted(storage.read(file.path, max(0, file.size - 8), 8))
    return False


def _span(
    chunks: Sequence[Sequence[ColumnChunk]], rows: Sequence[int], schema: pa.Schema, time: str
) -> TimeSpan | None:
    return (
        file_span(chunks, rows, schema.field(time).type, time)
        if schema.names.count(time) == 1
        else None
    )


def _contradiction(
    metadata: pq.FileMetaData, schema: pa.Schema, rows: Sequence[int], sizes: Sequence[int]
) -> str | None:
    """How the footer contradicts itself: it has no checksum, and pyarrow compares nothing."""
    if sum(rows) != metadata.num_rows or min([*rows, *sizes], default=0) < 0:
        return f"its row groups hold {sum(rows):,} rows, the file {metadata.num_rows:,}"
    for field in _as_written(metadata):
        is_one = schema.names.count(field.name) == 1
        found = plain_type(schema.field(field.name).type) if is_one else None
        if found is not None and _is_resigned(plain_type(field.type), found):
            return f"its two schemas say {field.type} and {found} of column {field.name!r}"
    return None


def _as_written(metadata: pq.FileMetaData) -> Sequence[pa.Field]:
    """The schema that Arrow keeps beside Parquet's own; empty if there is none."""
    written = (metadata.metadata or {}).get(b"ARROW:schema")
    if written is None:
        return ()
    try:
        return list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(written))))
    except (binascii.Error, pa.ArrowException, OSError):
        return ()  # pyarrow makes do without it too


def _is_resigned(written: pa.DataType, found: pa.DataType) -> bool:
    """Returns whether `found` is `written` with its sign lost or added, which one bit does.

    Any other difference may be the writer's choice.
    """
    if not (pat.is_integer(written) and pat.is_integer(found)):
        return False
    same_width = written.bit_width == found.bit_width
    return same_width and pat.is_signed_integer(written) != pat.is_signed_integer(found)
