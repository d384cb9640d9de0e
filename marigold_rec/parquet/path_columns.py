"""Columns that a log's files do not hold: of Hive's partitions, only the folders' names tell them.

Spark's partitionBy("country") writes country=DE/part-0.parquet, without a column `country`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pyarrow as pa

from marigold_rec.parquet.names import partition_values
from marigold_rec.transforms.columns import cast_table

_INTEGERS = 2**63


def only_in_path(
    path: str, in_file: Collection[str], wanted: Collection[str]
) -> dict[str, str | None]:
    """Those of the `wanted` columns that only the path of a file tells, with their value."""
    found = partition_values(path)
    return {name: found[name] for name in wanted if name in found and name not in in_file}


def type_of_path_values(values: Iterable[str | None]) -> pa.DataType:
    """int64 where every value of a log is an integer, else text: as Spark and pyarrow read them."""
    return pa.int64() if all(v is None or _is_integer(v) for v in values) else pa.string()


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= 19
    return is_number and -_INTEGERS <= int(text) < _INTEGERS


def complete(table: pa.Table, values: Mapping[str, str | None], schema: pa.Schema) -> pa.Table:
    """`table` with the columns and types of `schema`; those of `values` come from the path.

    Raises DataError where a value does not fit its column's type.
    """
    if not values:
        return cast_table(table, schema)
    columns = [
        _constant(values[field.name], field.type, table.num_rows)
        if field.name in values
        else table.column(field.name)
        for field in schema
    ]
    return cast_table(pa.Table.from_arrays(columns, names=schema.names), schema)


def _constant(value: str | None, kind: pa.DataType, rows: int) -> pa.Array:
    if value is None:
        return pa.nulls(rows, kind)
    return pa.repeat(pa.scalar(value).cast(kind), rows)
