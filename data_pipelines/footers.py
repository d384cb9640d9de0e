"""Reads the footers of all files, once and in parallel: rows, schema, and nulls per column."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.listing import ListedFile
from data_pipelines.storage import Storage
from marigold_rec.errors import DataError

# Footers are small: waiting for the storage is what takes time.
_THREADS = 16


@dataclass(frozen=True)
class Footer:
    """What a split's plan needs to know of one file."""

    rows_per_group: tuple[int, ...]
    bytes_per_group: tuple[int, ...]
    """Uncompressed."""
    schema: pa.Schema
    nulls: dict[str, int]
    """Column -> nulls in the file, of the columns asked for whose statistics are complete."""


def read_footers(
    storage: Storage, files: Sequence[ListedFile], null_columns: Sequence[str] = ()
) -> list[Footer]:
    """The footer of each file. Raises one DataError that lists all files that cannot be read."""
    with ThreadPoolExecutor(min(_THREADS, len(files))) as pool:
        results = list(pool.map(lambda file: _read(storage, file, null_columns), files))
    broken = [result for result in results if isinstance(result, str)]
    if broken:
        raise DataError(
            f"{len(broken)} of {len(files)} files are broken:\n"
            + "\n".join(broken)
            + "\nwrite them again or move them away"
        )
    return [result for result in results if isinstance(result, Footer)]


def _read(storage: Storage, file: ListedFile, null_columns: Sequence[str]) -> Footer | str:
    """The footer, or what is wrong with the file: the caller reports all broken files at once."""
    if file.size == 0:
        return f"{file.path}: 0 bytes"
    try:
        with storage.open_parquet(file.path) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        return f"{file.path}: {file.size:,} bytes, no readable Parquet footer ({error})"
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    return Footer(
        rows_per_group=tuple(group.num_rows for group in groups),
        bytes_per_group=tuple(group.total_byte_size for group in groups),
        schema=schema.remove_metadata(),
        nulls=_nulls(metadata, null_columns),
    )


def _nulls(metadata: pq.FileMetaData, columns: Sequence[str]) -> dict[str, int]:
    index_of = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    nulls: dict[str, int] = {}
    for name in columns:
        if name not in index_of:
            continue
        total = 0
        for group in range(metadata.num_row_groups):
            statistics = metadata.row_group(group).column(index_of[name]).statistics
            if statistics is None or not statistics.has_null_count:
                break
            total += statistics.null_count
        else:
            nulls[name] = total
    return nulls
