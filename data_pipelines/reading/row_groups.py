"""Decodes row groups: only the columns asked for, checksums verified, errors named."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import pyarrow as pa

from data_pipelines.catalog.catalog import Catalog, DataFile
from data_pipelines.catalog.storage import Storage
from data_pipelines.order.partition import Piece
from data_pipelines.reading.kept_footers import KeptFooters
from data_pipelines.reading.list_slots import num_slots
from data_pipelines.reading.replacement import ReplacementCheck
from marigold_rec.errors import DataError
from marigold_rec.parquet.opening import ReadPlan
from marigold_rec.parquet.path_columns import complete
from marigold_rec.transforms.arrow_types import plain_type


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
        self._replacement = ReplacementCheck(catalog)

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
            state = self._replacement.look(file)
            in_path = file.path_values
            columns = [name for name in self._columns if name not in in_path]
            plan = self._footers.get(file.path)
            if plan is None:
                plan = _planned(storage, file, columns)
                self._footers.add(file.path, plan)
            self._replacement.check(file, group, state, plan.metadata)
            with storage.open_parquet(
                file.path, verify_checksums=self._verify_checksums, plan=plan
            ) as parquet:
                table = parquet.read_row_group(group, columns=columns, use_threads=False)
                _require_sound(file, group, table, plan, columns)
            plan.texts.require(table, f"{file.path} row group {group}")
            return _completed(file, group, table, self._schema)
        except DataError:
            raise
        # A storage library may raise anything of its own: none of it must lose file and row group.
        except Exception as error:
            raise DataError(
                f"{file.path} row group {group}: cannot be read ({type(error).__name__}: {error}); "
                "the file is damaged or out of reach; write it again, or move it away and restart"
            ) from error


def _completed(file: DataFile, group: int, table: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return complete(table, file.path_values, schema)
    except DataError as error:
        where = f"{file.path} row group {group}"
        raise DataError([f"{where}: {problem}" for problem in error.problems]) from error


def _planned(storage: Storage, file: DataFile, columns: Sequence[str]) -> ReadPlan:
    try:
        return storage.plan_reading(file.path, columns)
    except DataError as error:
        raise DataError([f"{file.path}: {problem}" for problem in error.problems]) from error


def _require_sound(
    file: DataFile, group: int, table: pa.Table, plan: ReadPlan, columns: list[str]
) -> None:
    """What pyarrow leaves unsaid of a footer that was damaged: pages have checksums, it has none.

    Only after pyarrow has read the columns: its view of a damaged chunk ends the process.
    """
    if table.num_rows != file.rows_per_group[group]:
        raise DataError(
            f"{file.path} row group {group}: holds {table.num_rows:,} rows, its footer says "
            f"{file.rows_per_group[group]:,}; the file is damaged; write it again"
        )
    found = plan.metadata.row_group(group)
    for index, (name, is_nested) in enumerate(plan.leaves):
        if name not in columns:
            continue
        chunk = found.column(index)
        slots = num_slots(table.column(name)) if is_nested else None
        if slots is not None and slots != chunk.num_values:
            raise DataError(
                f"{file.path} row group {group}: column {name!r} holds {slots:,} values, its "
                f"footer says {chunk.num_values:,}; the file is damaged; write it again"
            )
        size, uncompressed = chunk.total_compressed_size, chunk.total_uncompressed_size
        if chunk.compression == "UNCOMPRESSED" and size != uncompressed:
            raise DataError(
                f"{file.path} row group {group}: column {name!r} is said to be uncompressed, "
                f"but {uncompressed:,} bytes lie in {size:,}; the file is damaged; write it again"
            )
