"""Decodes row groups: only the columns asked for, checksums verified, errors named."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.catalog import Catalog, DataFile
from data_pipelines.kept_footers import KeptFooters
from data_pipelines.partition import Piece
from marigold_rec.errors import DataError
from marigold_rec.transforms import plain_type


class RowGroups:
    """Reads pieces of a catalog's row groups. Safe in threads.

    Pieces of one row group follow each other in a rank's order, so the last few decoded groups are
    kept: a group that is cut into many pieces is decoded about once.
    """

    def __init__(
        self, catalog: Catalog, columns: Sequence[str], *, verify_checksums: bool, keep: int
    ) -> None:
        self._catalog = catalog
        self._columns = list(columns)
        # Files may differ in what is storage and not meaning; their tables must join all the same.
        self._schema = pa.schema(
            [(name, plain_type(catalog.schema.field(name).type)) for name in columns]
        )
        self._verify_checksums = verify_checksums
        self._keep = keep
        self._lock = threading.Lock()
        self._decoded: OrderedDict[int, pa.Table] = OrderedDict()
        self._decoding: dict[int, threading.Lock] = {}
        self._footers = KeptFooters()

    def read(self, piece: Piece) -> pa.Table:
        """The rows of `piece`, without a copy of the decoded group.

        Raises DataError, naming file and row group, when the file cannot be read, fails its
        checksums or is not the one that was scanned.
        """
        file, group = self._catalog.locate(piece.group)
        if piece.num_rows == file.rows_per_group[group]:
            return self._decode(file, group)
        return self._shared(piece.group, file, group).slice(piece.start, piece.num_rows)

    def source(self, piece: Piece) -> str:
        file, group = self._catalog.locate(piece.group)
        return f"{file.path} row group {group}"

    def _shared(self, index: int, file: DataFile, group: int) -> pa.Table:
        """The decoded group, kept for the other pieces of it."""
        with self._lock:
            lock = self._decoding.setdefault(index, threading.Lock())
        # Two threads that want the same group: one decodes, the other waits for it.
        with lock:
            with self._lock:
                if index in self._decoded:
                    self._decoded.move_to_end(index)
                    return self._decoded[index]
            table = self._decode(file, group)
            with self._lock:
                self._decoded[index] = table
                while len(self._decoded) > self._keep:
                    self._decoding.pop(self._decoded.popitem(last=False)[0], None)
        return table

    def _decode(self, file: DataFile, group: int) -> pa.Table:
        storage = self._catalog.storage
        try:
            size = storage.size(file.path)
            if size != file.size:
                raise DataError(_replaced(file, f"it has {size:,} bytes, had {file.size:,}"))
            footer = self._footers.get(file.path)
            with storage.open_parquet(
                file.path, verify_checksums=self._verify_checksums, metadata=footer
            ) as parquet:
                _require_same_group(file, group, parquet.metadata)
                if footer is None:
                    self._footers.add(file.path, parquet.metadata)
                table = parquet.read_row_group(group, columns=self._columns, use_threads=False)
            table = table.select(self._columns)
            if table.schema != self._schema:
                table = table.cast(self._schema)
        except DataError:
            raise
        # A storage library may raise anything of its own: none of it must lose file and row group.
        except Exception as error:
            raise DataError(
                f"{file.path} row group {group}: cannot be read ({type(error).__name__}: {error}); "
                "the file is damaged or out of reach; write it again, or move it away and restart"
            ) from error
        return table


def _require_same_group(file: DataFile, group: int, metadata: pq.FileMetaData) -> None:
    """Looks at this one row group only: all of them, at each, would be quadratic."""
    if metadata.num_row_groups != len(file.rows_per_group):
        found = f"it has {metadata.num_row_groups:,} row groups, had {len(file.rows_per_group):,}"
        raise DataError(_replaced(file, found))
    found = metadata.row_group(group)
    if found.num_rows != file.rows_per_group[group]:
        rows = f"{found.num_rows:,} rows, had {file.rows_per_group[group]:,}"
        raise DataError(_replaced(file, f"its row group {group} has {rows}"))
    if found.total_byte_size != file.bytes_per_group[group]:
        raise DataError(_replaced(file, f"its row group {group} is not the one that was scanned"))


def _replaced(file: DataFile, what: str) -> str:
    return (
        f"{file.path}: the file was replaced while the run reads it: {what}; "
        "write new data into new files, and restart"
    )
