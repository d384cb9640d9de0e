"""Counts how often a split's rows hold given ids: how often training has seen a user or an item."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipelines.catalog.catalog import Catalog, DataFile
from marigold_rec.errors import DataError
from marigold_rec.parquet.path_columns import complete
from marigold_rec.transforms.arrow_types import common_type

_PIECE_ROWS = 1 << 20


def count_ids(catalog: Catalog, column: str, ids: pa.Array) -> NDArray[np.int64]:
    """Counts the rows of `catalog` whose `column` holds each of `ids` (distinct, no null).

    Without a common type both are compared as text: 7 is "7". Reads this column only, row
    group by row group; memory for as many rows as ids. Raises DataError for a file that can't be
    read, or that has no such column.
    """
    common = common_type(catalog.schema.field(column).type, ids.type)
    ids = ids.cast(pa.string() if common is None else common)
    counts = np.zeros(len(ids), np.int64)
    options = pc.SetLookupOptions(value_set=ids, skip_nulls=True)
    # Each lookup hashes all ids first: for small row groups that alone would take most of the time.
    for values in _pieces(catalog, column, ids.type, max(_PIECE_ROWS, len(ids))):
        found = pc.call_function("index_in", [values], options)
        counts += np.bincount(found.drop_null().to_numpy(), minlength=len(ids))
    return counts


def _pieces(
    catalog: Catalog, column: str, kind: pa.DataType, min_rows: int
) -> Iterator[pa.ChunkedArray]:
    """Yields the column's values as `kind`; the last piece may have fewer than `min_rows`."""
    pending: list[pa.Array] = []
    for file in catalog.files:
        for values in _row_groups(catalog, file, column, kind):
            pending += values.chunks
            if sum(map(len, pending)) >= min_rows:
                yield pa.chunked_array(pending, kind)
                pending = []
    yield pa.chunked_array(pending, kind)


def _row_groups(
    catalog: Catalog, file: DataFile, column: str, kind: pa.DataType
) -> Iterator[pa.ChunkedArray]:
    try:
        schema = pa.schema([(column, kind)])
        names = [] if column in file.path_values else [column]
        plan = catalog.storage.plan_reading(file.path, names)
        with catalog.storage.open_parquet(file.path, plan=plan) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=names)
                plan.texts.require(table, f"row group {group}")
                yield complete(table, file.path_values, schema).column(column)
    # A storage library may raise anything of its own.
    except Exception as error:
        raise DataError(
            f"{file.path}: column {column!r} can't be read ({type(error).__name__}: {error})"
        ) from error
