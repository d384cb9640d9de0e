"""Users and slates as codes 0 .. U-1, and walks over rows by whole users in little memory.

A walk sorts one uint64 per row with the code in its high bits: numpy sorts plain integers several
times faster than an index by them, and takes no memory for it. What needs more per row is then
computed block by block, in the processor's cache.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marigold_rec.analysis.row_arrays import chunks, empty, is_on_disk, looked_up
from marigold_rec.transforms.arrow_types import is_hashable, plain_type

Codes = NDArray[np.int32]
Keys = NDArray[np.uint64]

BLOCK_ROWS = 1 << 18
"""Rows of a block, about: 2 MB a column."""

CODE_SHIFT = np.uint64(32)
"""A key is code << 32 | 32 bits of something else."""


def user_codes(values: Any) -> Codes:
    """Each value's number, 0 .. U-1, in the order of their first appearance; int32 [N].

    `values`: integers or strings, as an Arrow array (chunked or not, dictionary-encoded or not) or
    a numpy array. They are numbered through a hash table of the distinct ones. A dictionary that
    comes with the values is kept: its codes are then in its order, and some may have no row. A null
    is a user of its own: rows without a user are not the rows of one user. Raises TypeError for
    other types.
    """
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    is_encoded = pa.types.is_dictionary(column.type)
    _check_type(column.type.value_type if is_encoded else column.type)
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    code_N, known = value_codes(chunked)
    alone = len(known)
    for part in chunks(len(code_N)) if column.null_count else ():
        null_n = np.flatnonzero(code_N[part] == len(known))
        code_N[part][null_n] = np.arange(alone, alone + len(null_n))
        alone += len(null_n)
    return code_N


def value_codes(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """(number of each row's value, the distinct values); the number is their count for a null."""
    if pa.types.is_null(column.type):  # Arrow can't number nothing
        column = column.cast(pa.string())
    # One hash table numbers all chunks' values; dictionaries that came along have to be joined.
    is_encoded = pa.types.is_dictionary(column.type)
    encoded = column.unify_dictionaries() if is_encoded else column.dictionary_encode()
    values = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], column.type)
    code_N, start = empty(len(column), np.int32), 0
    for chunk in encoded.chunks:
        indices = chunk.indices.cast(pa.int32()).fill_null(len(values))
        code_N[start : start + len(chunk)] = indices.to_numpy()
        start += len(chunk)
    return code_N, values


def _check_type(kind: pa.DataType) -> None:
    # Null is what Arrow makes of an empty list.
    if not (is_hashable(plain_type(kind)) or pa.types.is_null(kind)):
        raise TypeError(f"ids must be integers, booleans, strings or bytes; found {kind}")


def num_codes(code_N: Codes) -> int:
    """The largest code + 1: how many clusters there are, those without rows among them."""
    return int(code_N.max(initial=-1)) + 1


def float_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """31 bits each, in the order of the values; equal values have equal bits. A new array.

    Raises ValueError for a value below 0 or NaN, whose bits are in another order.
    """
    if len(values) and not values.min() >= 0:
        raise ValueError(
            f"scores and labels must be >= 0; found {values[~(values >= 0)][0]}; leave invalid "
            "rows out"
        )
    return (values + np.float32(0)).view(np.uint32)  # -0.0 + 0 is 0.0


def code_keys(code_N: Codes | NDArray[np.uint32], low_N: NDArray[np.uint32]) -> Keys:
    """code << 32 | low, not sorted; 8 bytes a row."""
    keys = code_N.astype(np.uint64)
    keys <<= CODE_SHIFT
    keys |= low_N
    return keys


def blocks_of_whole_codes(keys: Keys, block_rows: int = BLOCK_ROWS) -> Iterator[Keys]:
    """Sorted keys in pieces of about `block_rows`, each code in one piece."""
    start = 0
    while start < len(keys):
        end = start + block_rows
        if end < len(keys):
            code = keys[end] >> CODE_SHIFT
            end = int(np.searchsorted(keys, code << CODE_SHIFT))
            if end <= start:  # a code with more rows than a block: all of it
                end = int(np.searchsorted(keys, (code + np.uint64(1)) << CODE_SHIFT))
        yield keys[start:end]
        start = end


def columns_by_code(
    code_N: Codes, columns: Sequence[NDArray[Any]], block_rows: int = BLOCK_ROWS
) -> Iterator[tuple[NDArray[Any], ...]]:
    """(code, values of each column) by ascending code and row, in blocks of whole codes."""
    keys = empty(len(code_N), np.uint64)
    for part in chunks(len(code_N)):
        row_n = np.arange(part.start, part.stop, dtype=np.uint32)
        keys[part] = code_keys(code_N[part], row_n)
    keys.sort()
    ordered = [looked_up(column_N, keys) for column_N in columns] if is_on_disk() else None
    start = 0
    for block in blocks_of_whole_codes(keys, block_rows):
        code = (block >> CODE_SHIFT).astype(np.int32)
        if ordered is None:
            row = block.astype(np.uint32).astype(np.intp)
            yield code, *(column_N[row] for column_N in columns)
        else:
            yield code, *(column_N[start : start + len(block)] for column_N in ordered)
        start += len(block)


def run_starts(values: NDArray[Any]) -> NDArray[np.intp]:
    """The first row of each run of equal values; at least one row."""
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
