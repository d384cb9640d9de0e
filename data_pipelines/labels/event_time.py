"""When the rows of files and splits happened, by the footers' statistics: no row is read.

A split's span tells whether evaluation rows are older than training rows: then the model has seen
what came after them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.parquet.column_chunks import ColumnChunk
from marigold_rec.transforms.arrow_types import plain_type

_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True)
class TimeSpan:
    """Of one file, in the column's own unit."""

    kind: pa.DataType
    first: int | None
    last: int | None
    """None: no row of it has a time."""
    is_complete: bool
    """False: a row group lacks statistics, so that the span may be longer."""

    def place(self, value: int) -> int:
        """`value` as comparable with other files', whose timestamps may be of another unit."""
        return value * _NS[self.kind.unit] if pat.is_timestamp(self.kind) else value

    def shown(self, value: int) -> str:
        """`value` as people read it: a timestamp as date and time, an integer as it is."""
        if not pat.is_timestamp(self.kind):
            return str(value)
        return str(pa.scalar(value, pa.int64()).cast(self.kind).cast(pa.string()).as_py())


def is_time(kind: pa.DataType) -> bool:
    kind = plain_type(kind)
    return pat.is_timestamp(kind) or pat.is_signed_integer(kind)


def file_span(
    groups: Sequence[Sequence[ColumnChunk]], rows: Sequence[int], kind: pa.DataType, column: str
) -> TimeSpan:
    """The span of `column` (of Arrow type `kind`) over a file's row groups."""
    firsts: list[int] = []
    lasts: list[int] = []
    is_complete = is_time(kind)
    for group, num_rows in zip(groups, rows, strict=True):
        chunks = [chunk for chunk in group if chunk.path == chunk.column == column]
        if num_rows == 0 or (chunks and chunks[0].nulls == num_rows):
            continue
        first = _integer(chunks[0].least) if chunks else None
        last = _integer(chunks[0].greatest) if chunks else None
        if first is None or last is None or first > last:
            is_complete = False
            continue
        firsts.append(first)
        lasts.append(last)
    return TimeSpan(kind, min(firsts, default=None), max(lasts, default=None), is_complete)


def _integer(plain: bytes | None) -> int | None:
    """Of Parquet's INT32 or INT64; INT96, which has no order, comes without statistics."""
    if plain is None or len(plain) not in (4, 8):
        return None
    return struct.unpack("<i" if len(plain) == 4 else "<q", plain)[0]


def time_problems(
    train: Iterable[tuple[str, TimeSpan | None]],
    held_out: Iterable[tuple[str, TimeSpan | None]],
    column: str,
) -> tuple[list[str], list[str]]:
    """(overlaps, warnings) between (path, span) of the training and the evaluation files."""
    train, held_out = list(train), list(held_out)
    blind = [path for path, span in [*train, *held_out] if span is None or not span.is_complete]
    warnings = []
    if blind:
        warnings.append(
            f"data.time: {len(blind)} of {len(train) + len(held_out)} files lack statistics of "
            f"column {column!r}, e.g. {blind[0]}: whether their rows overlap is not known"
        )
    known = [(s.last, path, s) for path, s in train if s is not None and s.last is not None]
    after = [(s.first, path, s) for path, s in held_out if s is not None and s.first is not None]
    if not known or not after:
        return [], warnings
    newest, newest_path, span = max(known, key=lambda entry: entry[2].place(entry[0]))
    oldest, oldest_path, other = min(after, key=lambda entry: entry[2].place(entry[0]))
    if span.place(newest) < other.place(oldest):
        return [], warnings
    return [
        f"data.time: evaluation must come after training, but column {column!r} runs to "
        f"{span.shown(newest)} in the training file {newest_path} and begins at "
        f"{other.shown(oldest)} in the evaluation file {oldest_path}"
    ], warnings
