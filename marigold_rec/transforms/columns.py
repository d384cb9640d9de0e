"""Arrow columns as lone plain arrays and as numpy values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

UINT64_SIGN = np.uint64(1 << 63)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """`kind` without what is storage and not meaning: dictionaries, names inside lists."""
    if pat.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pat.is_list(kind) or pat.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pat.is_large_list(kind):
        return pa.large_list(plain_type(kind.value_type))
    return kind


def is_list(kind: pa.DataType) -> bool:
    """Whether a plain type holds several values a row."""
    return pat.is_list(kind) or pat.is_large_list(kind)


def lone_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """`column` as one array of its plain type, chunks joined."""
    if isinstance(column, pa.ChunkedArray):
        # A lone chunk needs no copy; combine_chunks makes one.
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    array: pa.Array = column
    plain = plain_type(array.type)
    return array if array.type == plain else array.cast(plain)


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
