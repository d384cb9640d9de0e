"""Integers numbered 0 .. U-1 as they first appear, by a sort and not by a hash table.

A hash table of a million ids is larger than the processor's cache, so that every row waits for
memory. One uint64 per row, the id (or part of its hash) above the row's number, sorts several times
faster than such a table is asked: rows of one id then lie together, the first one first.

Shapes: N rows, n of them in a chunk; U distinct ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marigold_rec.analysis.row_arrays import chunks, empty

_Ids = NDArray[np.uint64]
_Codes = NDArray[np.int32]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 / the golden ratio (Knuth, The Art of Computer Programming 3, 6.4): spreads ids that are
close together over the high bits."""


def integer_codes(column: pa.ChunkedArray, num_threads: Literal[1, 2] = 1) -> _Codes:
    """int32 [N], of integers without nulls. Memory beyond the result: 8 bytes a row, 24 an id."""
    code_N = empty(len(column), np.int32)
    if num_threads == 1:
        _number(_pieces(column), code_N)
        return code_N
    half = len(column) // 2
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            _number,
            (_pieces(column[:half]), _pieces(column[half:])),
            (code_N[:half], code_N[half:]),
        )
    # The ids of the first half come first again, and keep their numbers.
    together = np.empty(len(first) + len(second), np.int32)
    _number((first, second), together)
    for part in chunks(len(column) - half):
        code_n = code_N[half:][part]
        code_n[:] = together[len(first) :].take(code_n, mode="clip")
    return code_N


def _pieces(column: pa.ChunkedArray) -> list[NDArray[Any]]:
    return [chunk.to_numpy() for chunk in column.chunks]


def _number(pieces: Sequence[NDArray[Any]], code_N: _Codes) -> _Ids:
    """The distinct ids in the order of their first appearance; fills `code_N`.

    Ids that span more than a key has room for are hashed. Those whose hashes agree in these bits
    get one number at first, that of the first of them; the rows of the others are found as their
    id is not that number's.
    """
    if not len(code_N):
        return np.empty(0, np.uint64)
    bits = np.uint64(max(len(code_N) - 1, 1).bit_length())
    lowest = min(int(piece.min()) for piece in pieces if len(piece))
    highest = max(int(piece.max()) for piece in pieces if len(piece))
    is_hashed = (highest - lowest).bit_length() > 64 - int(bits)
    keys = _sorted_keys(pieces, len(code_N), bits, None if is_hashed else lowest)
    first_U = _fill(keys, bits, code_N)
    del keys
    ids_U = _ids_at(pieces, first_U)
    if not is_hashed:
        return ids_U
    wrong = np.concatenate(
        [
            np.flatnonzero(ids_U.take(code_N[part], mode="clip") != ids_n) + part.start
            for part, ids_n in _ids(pieces)
        ]
    )
    if not len(wrong):
        return ids_U
    others, where, inverse = np.unique(
        _ids_at(pieces, wrong), return_index=True, return_inverse=True
    )
    code_N[wrong] = len(first_U) + inverse
    first_U, ids_U = np.append(first_U, wrong[where]), np.append(ids_U, others)
    order = np.argsort(first_U)
    ranks = _ranks(order)
    for part in chunks(len(code_N)):
        code_N[part] = ranks[code_N[part]]
    return ids_U[order]


def _ids(pieces: Sequence[NDArray[Any]]) -> Iterator[tuple[slice, _Ids]]:
    """(rows, their ids), in chunks."""
    start = 0
    for piece in pieces:
        for part in chunks(len(piece)):
            yield slice(start + part.start, start + part.stop), piece[part].astype(np.uint64)
        start += len(piece)


def _sorted_keys(
    pieces: Sequence[NDArray[Any]], num_rows: int, bits: np.uint64, lowest: int | None
) -> _Ids:
    """The id above the lowest one, or high bits of its hash | the row's number, in `bits` bits."""
    offset = None if lowest is None else np.uint64(lowest % 2**64)
    keys = empty(num_rows, np.uint64)
    for part, ids_n in _ids(pieces):
        if offset is None:
            ids_n *= _MULTIPLIER
            ids_n >>= bits
        else:
            ids_n -= offset
        ids_n <<= bits
        ids_n |= np.arange(part.start, part.stop, dtype=np.uint64)
        keys[part] = ids_n
    keys.sort()
    return keys


def _fill(keys: _Ids, bits: np.uint64, code_N: _Codes) -> NDArray[np.intp]:
    """The first row of each run of equal hashes, in the order of the rows; the runs' numbers."""
    row_bits = (np.uint64(1) << bits) - np.uint64(1)
    starts = [np.zeros(1, np.intp)]
    for part in chunks(len(keys) - 1):
        after_n = keys[part.start + 1 : part.stop + 1]
        starts.append(np.flatnonzero((after_n ^ keys[part]) > row_bits) + (part.start + 1))
    start_U = np.concatenate(starts)
    first_U = (keys[start_U] & row_bits).astype(np.intp)
    order = np.argsort(first_U)
    rank_U = _ranks(order).astype(np.uint64)
    # Back in the order of the rows by another sort: not slower than writing to rows all over the
    # memory, and it does not need all of them there.
    for part in chunks(len(keys)):
        runs = slice(*np.searchsorted(start_U, [part.start + 1, part.stop]))
        counts = np.diff(start_U[runs], prepend=part.start, append=part.stop)
        key_n = keys[part]
        key_n &= row_bits
        key_n <<= np.uint64(32)
        key_n |= np.repeat(rank_U[runs.start - 1 : runs.stop], counts)
    keys.sort()
    for part in chunks(len(keys)):
        code_N[part] = keys[part] & np.uint64(0xFFFFFFFF)
    return first_U[order]


def _ranks(order: NDArray[np.intp]) -> _Codes:
    """The place of each entry in this order."""
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks


def _ids_at(pieces: Sequence[NDArray[Any]], rows: NDArray[np.intp]) -> _Ids:
    """Of ascending rows."""
    found, start = [np.empty(0, np.uint64)], 0
    for piece in pieces:
        own = slice(*np.searchsorted(rows, [start, start + len(piece)]))
        found.append(piece[rows[own] - start].astype(np.uint64))
        start += len(piece)
    return np.concatenate(found)
