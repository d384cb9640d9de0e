"""Opens a Parquet file for reading, once its footer is known to be harmless."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from marigold_rec.errors import DataError
from marigold_rec.parquet.column_chunks import column_chunks
from marigold_rec.parquet.limits import (
    TextLimits,
    lying_lists,
    rows_problem,
    size_problems,
    text_limits,
)

_ENCRYPTED = b"PARE"


@dataclass(frozen=True)
class ReadPlan:
    """A file's footer, and how its texts must be decoded."""

    metadata: pq.FileMetaData
    texts: TextLimits
    leaves: tuple[tuple[str, bool], ...] = ()
    """Of each leaf: its column, and whether that is nested. A dot in a path may be a name's."""

    @property
    def arguments(self) -> dict[str, Any]:
        """For pq.ParquetFile."""
        return {"metadata": self.metadata, "read_dictionary": list(self.texts.paths) or None}


def plan_reading(source: Any, columns: Collection[str]) -> ReadPlan:
    """`source`: a local path, or a file that can seek. Closes neither.

    Raises DataError: `columns` of it take far more memory than it has bytes, or are encrypted; and
    what pyarrow raises where it is no Parquet file.
    """
    if not isinstance(source, str):
        return _planned(source, source, columns)
    with open(source, "rb") as file:
        return _planned(source, file, columns)


def _planned(source: Any, file: Any, columns: Collection[str]) -> ReadPlan:
    def read(start: int, size: int) -> bytes:
        file.seek(start)
        return file.read(size)

    size = file.seek(0, os.SEEK_END)
    with pq.ParquetFile(source) as parquet:
        metadata = parquet.metadata
    groups = column_chunks(read, size, metadata)
    problems = size_problems(groups, metadata, size, columns)
    if (problem := rows_problem(metadata, size)) is not None:
        problems.append(problem)
    if source is not file:  # from a bucket, each header would be a request
        problems += lying_lists(groups, read, columns)
    if problems:
        raise DataError(problems)
    leaves = tuple(
        (chunk.column, chunk.path != chunk.column) for chunk in (groups[0] if groups else ())
    )
    return ReadPlan(metadata, text_limits(groups, metadata, size, columns), leaves)


def is_encrypted(tail: bytes) -> bool:
    """By a file's last bytes: its footer can't be read without keys."""
    return tail[-4:] == _ENCRYPTED
