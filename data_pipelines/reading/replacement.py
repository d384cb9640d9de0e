"""Notices a file that was replaced after the scan: what a run reads must be what it was checked on.

A scan and its readers may be minutes and machines apart, and a nightly job may write into the same
folder.
"""

from __future__ import annotations

import socket
from typing import NoReturn

import pyarrow.parquet as pq

from data_pipelines.catalog.catalog import Catalog, DataFile
from data_pipelines.catalog.storage import FileState
from marigold_rec.errors import DataError


class ReplacementCheck:
    """Holds the files of a catalog against what the scan saw. Safe in threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._storage = catalog.storage
        # Another machine may read a copy of the log of its own, with times of its own: there, a
        # file's time is held against what this process saw of it first.
        self._is_scanner = not catalog.storage.is_local or catalog.host == socket.gethostname()
        self._first_seen: dict[str, str | None] = {}

    def look(self, file: DataFile) -> FileState:
        """The file's state now, to be given to `check`. Raises DataError if its size changed."""
        state = self._storage.state(file.path)
        if state.size != file.size:
            _refuse(file, f"it has {state.size:,} bytes, had {file.size:,}")
        return state

    def check(
        self, file: DataFile, group: int, state: FileState, metadata: pq.FileMetaData
    ) -> None:
        """Raises DataError if row group `group`, or the time of the file, is not the scanned one.

        Looks at this one row group only: all of them, at each, would be quadratic.
        """
        if metadata.num_row_groups != len(file.rows_per_group):
            count = len(file.rows_per_group)
            _refuse(file, f"it has {metadata.num_row_groups:,} row groups, had {count:,}")
        found = metadata.row_group(group)
        if found.num_rows != file.rows_per_group[group]:
            rows = f"{found.num_rows:,} rows, had {file.rows_per_group[group]:,}"
            _refuse(file, f"its row group {group} has {rows}")
        if found.total_byte_size != file.bytes_per_group[group]:
            _refuse(file, f"its row group {group} is not the one that was scanned")
        expected = file.modified
        if not self._is_scanner:
            expected = self._first_seen.setdefault(file.path, state.modified)
        if state.differs_from(expected):
            _refuse(file, "it was written again (the same size, another time or version)")


def _refuse(file: DataFile, what: str) -> NoReturn:
    raise DataError(
        f"{file.path}: the file was replaced while the run reads it: {what}; "
        "write new data into new files, and restart"
    )
