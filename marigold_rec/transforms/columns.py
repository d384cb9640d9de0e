"""Arrow columns as lone plain arrays and as numpy values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from marigold_rec.errors import DataError
from marigold_rec.transforms.arrow_types import is_list, plain_type


def lone_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """`column` as one array of its plain type, chunks joined."""
    if isinstance(column, pa.ChunkedArray):
        # Chunk by chunk: the dictionaries of many chunks need not fit one's indices.
        column = cast_column(column, plain_type(column.type))
        # A lone chunk needs no copy; combine_chunks makes one.
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return _cast(column, plain_type(column.type))


def cast_column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """`column` as `kind`, a plain type. Raises pa.ArrowInvalid where a value does not fit it."""
    if column.type == kind:
        return column
    return pa.chunked_array([_cast(chunk, kind) for chunk in column.chunks], kind)


def cast_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`, of its plain types. Raises DataError where a value does not fit."""
    columns: list[pa.ChunkedArray] = []
    for field in schema:
        column = table.column(field.name)
        try:
            columns.append(cast_column(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"column {field.name!r} is {column.type} and can't be read as {field.type} "
                f"({error}); write values that fit, or the column as text"
            ) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """As Array.cast, and of the types that it can't cast from."""
    found = array.type
    if found == kind:
        return array
    if isinstance(array, pa.ExtensionArray):
        return _cast(array.storage, kind)
    if pat.is_run_end_encoded(found):
        return _cast(pc.call_function("run_end_decode", [array]), kind)
    if pat.is_dictionary(found):
        return _cast(array.dictionary, kind).take(array.indices)
    if pat.is_decimal32(found) or pat.is_decimal64(found):
        # Arrow's own cast of these to integers finds numbers that fit out of bounds.
        return array.cast(pa.decimal128(found.precision, found.scale)).cast(kind)
    if is_list(kind) and not pat.is_null(found):
        return _cast_lists(array, kind)
    return array.cast(kind)


def _cast_lists(array: pa.Array, kind: pa.DataType) -> pa.Array:
    is_large = pat.is_large_list(kind)
    lengths = pc.call_function("list_value_length", [array]).fill_null(0)
    ends = np.cumsum(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)
    offsets = pa.array(np.concatenate([[0], ends]), pa.int64()).cast(
        pa.int64() if is_large else pa.int32()
    )
    mask = array.is_null() if array.null_count else None
    # flatten() respects slices and leaves out whatever lies behind a null list.
    values = _cast(array.flatten(), kind.value_type)
    make = pa.LargeListArray if is_large else pa.ListArray
    return make.from_arrays(offsets, values, type=kind, mask=mask)


def float64_values(array: pa.Array) -> np.ndarray:
    """The numbers of `array` as float64; null becomes NaN.

    A null must never reach numpy as an integer: it would read as -9223372036854775808. Integers
    beyond 2**53 are rounded to the nearest float64.
    """
    if array.type != pa.float64():
        array = array.cast(pa.float64(), safe=False)
    if array.null_count:
        array = array.fill_null(float("nan"))
    return array.to_numpy(zero_copy_only=False)


def int64_bits(array: pa.Array) -> np.ndarray:
    """The integers of `array` (no nulls) as int64; uint64 keeps its bits, so 2**64-1 becomes -1."""
    assert array.null_count == 0
    if array.type == pa.uint64():
        return array.to_numpy(zero_copy_only=False).view(np.int64)
    if array.type != pa.int64():
        array = array.cast(pa.int64())
    return array.to_numpy(zero_copy_only=False)
