"""What a Parquet footer says of every column chunk: where it lies, its nulls and its extremes.

Read without pyarrow's own view of the chunks: see marigold_rec/parquet/thrift.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow.parquet as pq

from marigold_rec.parquet.thrift import Struct, read_struct

_MAGIC = 4
"""Bytes of "PAR1", with which a file begins and ends."""
_TAIL = 8
"""Bytes after the footer: its length, and "PAR1"."""
_UNCOMPRESSED = 0
_BYTE_ARRAY = 6


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One column of one row group."""

    column: str
    path: str
    """Dotted: `history.list.element` for a list."""
    start: int
    """First byte, in the file."""
    size: int
    """Bytes in the file."""
    num_values: int
    """Nulls and empty lists included."""
    nulls: int | None
    """Null where the statistics do not tell."""
    least: bytes | None
    greatest: bytes | None
    """In Parquet's plain encoding; null where the statistics do not tell."""
    is_uncompressed: bool
    uncompressed_size: int
    is_text: bool
    """Its values are of any length."""
    is_encrypted: bool


def column_chunks(
    read: Callable[[int, int], bytes], size: int, metadata: pq.FileMetaData
) -> list[list[ColumnChunk]]:
    """Of every row group, in order; `metadata` was read from this file of `size` bytes.

    `read` gives so many bytes of the file from a place on. Takes one more read, and some 30 us a
    chunk. Raises ValueError if it is damaged.
    """
    # Not from pyarrow's metadata.write_metadata_file: damaged metadata can crash that too.
    length = metadata.serialized_size
    footer = read(size - _TAIL - length, length + _TAIL)
    written = int.from_bytes(footer[-_TAIL:-4], "little")
    if written > length:  # a signature follows: some columns are encrypted, the footer is not
        footer = read(size - _TAIL - written, written + _TAIL)
    try:
        return [[_chunk(chunk) for chunk in group[1]] for group in read_struct(footer)[4]]
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"a column chunk is not described ({error!r})") from error


def _chunk(found: Struct) -> ColumnChunk:
    if 8 in found:
        return _encrypted(found[8])
    chunk: Struct = found[3]
    statistics: dict[int, Any] = chunk.get(12, {})
    # A dictionary page, if there is one, comes first.
    starts = [chunk[9], chunk[11]] if chunk.get(11, 0) > 0 else [chunk[9]]
    return ColumnChunk(
        column=chunk[3][0].decode(),
        path=b".".join(chunk[3]).decode(),
        start=min(starts),
        size=chunk[7],
        num_values=chunk[5],
        nulls=statistics.get(3),
        least=statistics.get(6),
        greatest=statistics.get(5),
        is_uncompressed=chunk[4] == _UNCOMPRESSED,
        uncompressed_size=chunk[6],
        is_text=chunk[1] == _BYTE_ARRAY,
        is_encrypted=False,
    )


def _encrypted(found: Struct) -> ColumnChunk:
    """Nobody without the keys knows more of it than its name: and not even that, by one key."""
    path = found.get(2, {}).get(1, [b"?"])
    return ColumnChunk(
        column=path[0].decode(),
        path=b".".join(path).decode(),
        start=0,
        size=0,
        num_values=0,
        nulls=None,
        least=None,
        greatest=None,
        is_uncompressed=False,
        uncompressed_size=0,
        is_text=False,
        is_encrypted=True,
    )


def layout_problems(
    groups: Sequence[Sequence[ColumnChunk]], rows: Sequence[int], file_size: int
) -> list[str]:
    """What can't be true of a whole file: each line names a row group or a column.

    Parquet has no checksum of its footer: this is what can be said of it instead.
    """
    problems: list[str] = []
    for index, (group, num_rows) in enumerate(zip(groups, rows, strict=True)):
        for chunk in group:
            if chunk.is_encrypted or (num_rows == 0 and chunk.num_values == 0):
                continue  # lies nowhere, or nobody knows where
            where = f"row group {index}, column {chunk.path!r}"
            if (
                chunk.start < _MAGIC
                or chunk.size < 0
                or chunk.start + chunk.size > file_size - _TAIL
            ):
                problems.append(
                    f"{where}: said to lie in bytes {chunk.start:,} to "
                    f"{chunk.start + chunk.size:,}, outside of the file's {file_size:,}"
                )
            if chunk.path == chunk.column and chunk.num_values != num_rows:
                problems.append(f"{where}: {chunk.num_values:,} values for {num_rows:,} rows")
            if chunk.is_uncompressed and chunk.size != chunk.uncompressed_size:
                problems.append(
                    f"{where}: said to be uncompressed, but {chunk.uncompressed_size:,} bytes lie "
                    f"in {chunk.size:,}"
                )
    chunks = [chunk for group in groups for chunk in group if chunk.num_values]
    ordered = sorted((c.start, c.start + c.size, c.path) for c in chunks)
    problems += [
        f"columns {first[2]!r} and {second[2]!r} are said to lie in the same bytes ({second[0]:,})"
        for first, second in pairwise(ordered)
        if first[1] > second[0]
    ]
    return problems
