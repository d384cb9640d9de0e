"""Users and slates as codes 0 .. U-1, and walks over rows by whole users in little memory.

A walk sorts one uint64 per row with the code in its high bits: numpy sorts plain integers several
times faster than an index by them, and takes no memory for it. What needs more per row is then
computed block by block, in the processor's cache.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marigold_rec.analysis.row_arrays import chunks, empty, is_on_disk, looked_up
from marigold_rec.transforms import is_hashable, plain_type

Codes = NDArray[np.int32]
Keys = NDArray[np.uint64]

BLOCK_ROWS = 1 << 18
"""Rows of a block, about: 2 MB a column."""

_ROWS_FOR_TWO = 1 << 18
"""Of each of two threads; with fewer, one is as fast."""

CODE_SHIFT = np.uint64(32)
"""A key is code << 32 | 32 bits of something else."""


def user_codes(values: Any) -> Codes:
    """Each value's number, 0 .. U-1, in the order of their first appearance; int32 [N].

    `values`: integers or strings, as an Arrow array (chunked or not, dictionary-encoded or not) or
    a numpy array. They are numbered through a hash table of the distinct ones, with a copy of all
    where they come in several chunks. A dictionary that comes with the values is kept: its codes
    are then in its order, and some may have no row. Raises ValueError where a value is null (rows
    without a user are not the rows of one user) and TypeError for other types.
    """
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    if column.null_count:
        raise ValueError(
            f"{column.null_count} of {len(column)} values are null; leave these rows out, or give "
            "each an id of its own"
        )
    if pa.types.is_dictionary(column.type):
        _check_type(column.type.value_type)
    else:
        _check_type(column.type)
        column = _encoded(column)
    codes = empty(len(column), np.int32)
    start = 0
    for chunk in with_one_dictionary(_chunked(column)).chunks:
        codes[start : start + len(chunk)] = chunk.indices.to_numpy()
        start += len(chunk)
    return codes


def _chunked(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _encoded(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """In two chunks, each by a thread. As many chunks it takes ten times as long: each has a
    dictionary of its own, and these are unified one after the other."""
    if is_on_disk():
        return _chunked(column).dictionary_encode()
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    half = len(whole) // 2
    if half < _ROWS_FOR_TWO:
        return pa.chunked_array([whole.dictionary_encode()])
    with ThreadPoolExecutor(2) as pool:
        return pa.chunked_array(
            list(pool.map(pa.Array.dictionary_encode, (whole[:half], whole[half:])))
        )


def with_one_dictionary(encoded: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of all chunks; encoded together they share it already, which Arrow takes long to find out."""
    dictionaries = {
        (len(d), *(None if buffer is None else buffer.address for buffer in d.buffers()))
        for d in (chunk.dictionary for chunk in encoded.chunks)
    }
    return encoded if len(dictionaries) == 1 else encoded.unify_dictionaries()


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
