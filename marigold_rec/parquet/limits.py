"""What a file may become in memory, told by its footer before anything is decoded.

A file of 2 kB can hold one list of 150 million equal ids, or one text of megabytes a million times:
encodings by runs and dictionaries have no bound. Nobody writes such logs, but a broken writer or an
enemy takes a machine down with one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from marigold_rec.errors import DataError
from marigold_rec.parquet.column_chunks import ColumnChunk
from marigold_rec.parquet.thrift import read_struct_and_size

_MIB = 1024**2
_ALWAYS_BYTES = 128 * _MIB
"""A column of a row group may take so much, however small it is in the file: 16 M equal numbers."""
_TIMES = 1000
"""... or so many times its bytes in the file. Columns of real logs stay below 100."""
_VALUE_BYTES = 8
_PAGE_HEADER = 16_384
"""More bytes than a page's header takes."""
_COMPRESSED_SIZE, _DATA_PAGE, _DATA_PAGE_V2 = 3, 5, 8
"""Fields of a page's header; field 1 of the latter two is the number of values."""


@dataclass(frozen=True)
class TextLimits:
    """Columns whose footer can't tell how long their texts become.

    They are decoded as dictionaries, which take no more than the file's bytes times `_TIMES`, and
    measured before each text is written out.
    """

    paths: tuple[str, ...] = ()
    """Dotted, as `read_dictionary` of pyarrow takes them."""
    bytes_of: Mapping[str, int] | None = None
    """Column -> bytes that its texts may take in one piece of a row group."""

    def require(self, table: pa.Table, where: str) -> None:
        """Raises DataError where texts of `table` would take more."""
        for name, most in (self.bytes_of or {}).items():
            if name not in table.column_names:
                continue
            size = sum(_text_bytes(chunk) for chunk in table.column(name).chunks)
            if size > most:
                raise DataError(
                    f"{where}: column {name!r}: its texts would take {size / _MIB:,.0f} MiB in "
                    f"memory, allowed are {most / _MIB:,.0f}{_REMEDY}"
                )


_REMEDY = (
    f" (a column of a row group may take {_ALWAYS_BYTES // _MIB} MiB, or {_TIMES:,} times its "
    "bytes in the file): no log is like this; look at its writer, or write smaller row groups"
)


def size_problems(
    groups: Sequence[Sequence[ColumnChunk]],
    metadata: pq.FileMetaData,
    file_size: int,
    columns: Collection[str],
) -> list[str]:
    """A line for each of `columns` that can't be decoded: too large, or encrypted."""
    problems: dict[str, str] = {}
    for number, chunk, width in _chunks(groups, metadata, columns):
        if chunk.is_encrypted:
            problems.setdefault(chunk.column, f"column {chunk.path!r} is encrypted{NO_KEYS}")
            continue
        decoded = max(chunk.uncompressed_size, chunk.num_values * width)
        if decoded > _allowed(chunk, file_size):
            problems.setdefault(
                chunk.column,
                f"row group {number}, column {chunk.path!r}: {chunk.num_values:,} values in "
                f"{chunk.size:,} bytes would take {decoded / _MIB:,.0f} MiB in memory{_REMEDY}",
            )
    return list(problems.values())


NO_KEYS = " (Parquet's modular encryption), and no keys can be given; write it unencrypted"


def lying_lists(
    groups: Sequence[Sequence[ColumnChunk]],
    read: Callable[[int, int], bytes],
    columns: Collection[str],
) -> list[str]:
    """A line for each list column whose pages hold more values than the footer says of it.

    A list is decoded as long as its pages go on, whatever the footer says; of other columns no more
    than the rows are decoded. Reads the pages' headers, from a local disk.
    """
    return [
        f"row group {number}, column {chunk.path!r}: its pages hold {found:,} values, its footer "
        f"says {chunk.num_values:,}; the file is damaged; write it again"
        for number, group in enumerate(groups)
        for chunk in group
        if chunk.column in columns and chunk.path != chunk.column and not chunk.is_encrypted
        if (found := _values_in_pages(chunk, read)) > chunk.num_values
    ]


def _values_in_pages(chunk: ColumnChunk, read: Callable[[int, int], bytes]) -> int:
    """As far as the pages' headers can be read: whoever decodes them will tell of the rest."""
    at, values = chunk.start, 0
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        while at < chunk.start + chunk.size and values <= chunk.num_values:
            header, size = read_struct_and_size(read(at, _PAGE_HEADER))
            values += (header.get(_DATA_PAGE) or header.get(_DATA_PAGE_V2) or {1: 0})[1]
            at += size + header[_COMPRESSED_SIZE]
            if header[_COMPRESSED_SIZE] < 0:
                break
    return values


def rows_problem(metadata: pq.FileMetaData, file_size: int) -> str | None:
    """A quick look at the rows alone: so many can't lie in so small a file."""
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if rows * _VALUE_BYTES > max(_ALWAYS_BYTES, _TIMES * file_size):
            return f"row group {number}: {rows:,} rows in a file of {file_size:,} bytes{_REMEDY}"
    return None


def text_limits(
    groups: Sequence[Sequence[ColumnChunk]],
    metadata: pq.FileMetaData,
    file_size: int,
    columns: Collection[str],
) -> TextLimits:
    """Which of `columns` must be measured before their texts are written out."""
    paths: dict[str, None] = {}
    limits: dict[str, int] = {}
    for _, chunk, _ in _chunks(groups, metadata, columns):
        allowed = _allowed(chunk, file_size)
        # In a dictionary every text may be as long as all of its bytes.
        if chunk.is_text and chunk.num_values * chunk.uncompressed_size > allowed:
            paths[chunk.path] = None
            limits[chunk.column] = max(allowed, limits.get(chunk.column, 0))
    return TextLimits(tuple(paths), limits)


def _chunks(
    groups: Sequence[Sequence[ColumnChunk]], metadata: pq.FileMetaData, columns: Collection[str]
) -> Iterator[tuple[int, ColumnChunk, int]]:
    """(row group, chunk, bytes of a value) of `columns`."""
    lengths = [metadata.schema.column(i).length for i in range(metadata.num_columns)]
    for number, group in enumerate(groups):
        for chunk, length in zip(group, lengths, strict=True):
            if chunk.column in columns or chunk.column == "?":
                yield number, chunk, max(_VALUE_BYTES, length)


def _allowed(chunk: ColumnChunk, file_size: int) -> int:
    return max(_ALWAYS_BYTES, _TIMES * min(chunk.size, file_size))


def _text_bytes(array: pa.Array) -> int:
    """Bytes that the texts of `array` take when they are written out one by one."""
    if pat.is_list(array.type) or pat.is_large_list(array.type):
        return _text_bytes(array.flatten())
    if not isinstance(array, pa.DictionaryArray):
        return 0  # it takes what it takes already
    lengths = pc.call_function("binary_length", [array.dictionary]).cast(pa.int64())
    found = pc.call_function("take", [lengths, array.indices])
    return int(pc.call_function("sum", [found]).as_py() or 0)
