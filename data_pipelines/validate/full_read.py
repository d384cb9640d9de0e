"""Decodes every row group once, piece by piece, and notes what is damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.catalog.catalog import Catalog, DataFile
from data_pipelines.validate.report import ChecksumFindings, DayFindings, Report
from data_pipelines.validate.statistics_check import StatisticsCheck
from data_pipelines.validate.tallies import Tallies
from marigold_rec.errors import DataError
from marigold_rec.parquet.column_chunks import ColumnChunk, column_chunks, layout_problems
from marigold_rec.parquet.limits import TextLimits
from marigold_rec.parquet.path_columns import complete
from marigold_rec.parquet.thrift import read_struct
from marigold_rec.transforms.arrow_types import plain_type

_PIECE_ROWS = 65_536
_BUFFER = 1024**2
_PAGE_CRC = 4
"""Field of a page's header."""
_HEADER = 65_536
"""More than a page's header takes, statistics of long strings included."""


class FullRead:
    """Memory: one piece of rows, and a buffer per column, however large the row groups are."""

    def __init__(
        self, catalog: Catalog, columns: Sequence[str], tallies: Tallies | None, report: Report
    ) -> None:
        """`tallies` is None where the columns do not fit the config: then nothing is counted."""
        self._catalog = catalog
        self._columns = [name for name in columns if name in catalog.schema.names]
        self._schema = pa.schema(
            [(name, plain_type(catalog.schema.field(name).type)) for name in self._columns]
        )
        self._tallies = tallies
        self._report = report
        self._days: dict[str, DayFindings] = {}

    def run(self, progress: Callable[[int], None]) -> None:
        """`progress` is told the rows read so far."""
        done = 0
        for file in self._catalog.files:
            try:
                self._read_file(file)
            except DataError as error:
                self._report.problems += [f"{file.path}: {problem}" for problem in error.problems]
            # A storage library may raise anything of its own; the other files are still read.
            except Exception as error:
                self._report.problems.append(
                    f"{file.path}: cannot be read ({type(error).__name__}: {error})"
                )
            done += sum(file.rows_per_group)
            progress(done)
        self._report.days = [self._days[day] for day in sorted(self._days)]

    def _read_file(self, file: DataFile) -> None:
        day = self._days.setdefault(str(file.day or "-"), DayFindings(str(file.day or "-")))
        day.files += 1
        day.rows += sum(file.rows_per_group)
        storage = self._catalog.storage
        columns = [name for name in self._columns if name not in file.path_values]
        plan = storage.plan_reading(file.path, columns)
        with storage.open_parquet(
            file.path, verify_checksums=True, plan=plan, buffer_size=_BUFFER
        ) as parquet:
            groups = column_chunks(partial(storage.read, file.path), file.size, plan.metadata)
            layout = layout_problems(groups, file.rows_per_group, file.size)
            self._report.problems += [f"{file.path}: {problem}" for problem in layout]
            self._note_checksums(file, groups)
            for group, chunks in enumerate(groups):
                self._read_group(file, group, chunks, plan.texts, parquet, day)

    def _note_checksums(self, file: DataFile, groups: Sequence[Sequence[ColumnChunk]]) -> None:
        """Of the file's first page: a writer gives them to all pages or to none."""
        first = min((chunk.start for group in groups for chunk in group), default=None)
        if first is None:
            return
        head = self._catalog.storage.read(file.path, first, _HEADER)
        found: ChecksumFindings = self._report.checksums
        try:
            has_them = _PAGE_CRC in read_struct(head)
        except ValueError:
            return  # the read will tell
        if has_them:
            found.files_with += 1
        else:
            found.files_without.append(file.path)

    def _read_group(
        self,
        file: DataFile,
        group: int,
        chunks: Sequence[ColumnChunk],
        texts: TextLimits,
        parquet: pq.ParquetFile,
        day: DayFindings,
    ) -> None:
        where = f"{file.path} row group {group}"
        check = StatisticsCheck(chunks, parquet.schema_arrow)
        rows = 0
        try:
            for piece in parquet.iter_batches(
                _PIECE_ROWS,
                row_groups=[group],
                columns=[name for name in self._columns if name not in file.path_values],
                use_threads=False,
            ):
                table = pa.Table.from_batches([piece])
                texts.require(table, where)
                table = complete(table, file.path_values, self._schema)
                rows += table.num_rows
                check.add(table)
                if self._tallies is not None:
                    self._tallies.add(table, day)
        except DataError as error:
            self._report.problems += [
                problem if problem.startswith(where) else f"{where}: {problem}"
                for problem in error.problems
            ]
            return
        except Exception as error:
            if "checksum" in str(error).lower():
                self._report.checksums.failures.append(where)
            self._report.problems.append(
                f"{where}: cannot be read ({type(error).__name__}: {error}); the file is "
                "damaged or out of reach; write it again"
            )
            return
        if self._columns and rows != file.rows_per_group[group]:
            self._report.problems.append(
                f"{where}: holds {rows:,} rows, its footer says {file.rows_per_group[group]:,}"
            )
        self._report.problems += [
            f"{where}: {problem}; the file is damaged" for problem in check.problems()
        ]
