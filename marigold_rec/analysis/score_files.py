"""What a model said of the rows of a split, as Parquet: written by each rank, read by the analysis.

| column | type | meaning |
|---|---|---|
| `score.<task>` | float32 | prediction in the label's units |
| `score.<task>.<column>` | float32 | what its head predicts beside: p90, say |
| `label.<task>` | float32 | null where not observed |
| `weight` | float32 | of the row |
| `column.<name>` | as in the log | users, slates, slices |

The parts, in the order of the ranks, hold the rows in the order of the split's files, whatever the
number of ranks: the analysis sees the same rows in the same order.

Shapes: B rows of a batch, T tasks, P predictions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from marigold_rec.analysis.row_arrays import empty, kept_column, without_ones

_PART = re.compile(r"^part-(\d{5})-of-(\d{5})\.parquet$")
_GROUP_ROWS = 1 << 18


class ScoreWriter:
    """Writes one rank's rows; the part appears under its name when it is closed."""

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        world_size: int,
        tasks: Sequence[str],
        columns: Mapping[str, pa.DataType],
        extra: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`folder` must be there. `columns`: what travels along, by name. `extra`: (task, column)
        of the predictions that come behind the tasks' expected values."""
        self._final = folder / f"part-{rank:05d}-of-{world_size:05d}.parquet"
        self._temporary = self._final.with_suffix(".tmp")
        self._tasks = tuple(tasks)
        self._columns = tuple(columns)
        self._scores = [f"score.{task}" for task in tasks] + [f"score.{t}.{c}" for t, c in extra]
        labels = [f"label.{task}" for task in tasks]
        fields = [(name, pa.float32()) for name in ("weight", *self._scores, *labels)]
        fields += [(f"column.{name}", kind) for name, kind in columns.items()]
        self._schema = pa.schema(fields)
        self._pending: list[pa.RecordBatch] = []
        self._num_pending = 0
        # Predictions hardly repeat: a dictionary of them takes longer and makes the file larger.
        repeating = [f"column.{name}" for name in columns] or False
        self._writer = pq.ParquetWriter(
            self._temporary,
            self._schema,
            compression="lz4",
            use_dictionary=repeating,  # pyright: ignore[reportArgumentType]
        )

    def add(
        self,
        scores_BP: NDArray[np.float32],
        labels_BT: NDArray[np.float32],
        observed_BT: NDArray[np.bool_],
        weights_B: NDArray[np.float32],
        columns: Mapping[str, pa.Array],
    ) -> None:
        arrays: list[pa.Array] = [pa.array(weights_B)]
        arrays += [pa.array(scores_BP[:, i]) for i in range(len(self._scores))]
        arrays += [
            pa.array(labels_BT[:, i], mask=~observed_BT[:, i]) for i in range(len(self._tasks))
        ]
        arrays += [columns[name] for name in self._columns]
        self._pending.append(pa.record_batch(arrays, schema=self._schema))
        self._num_pending += len(weights_B)
        if self._num_pending >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Ends the part. Without it there is none."""
        self._flush()
        self._writer.close()
        self._temporary.rename(self._final)

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending, self._schema))
            self._pending, self._num_pending = [], 0


class ScoreFiles:
    """Reads a folder of parts, column by column: no more than what is asked for is in memory."""

    def __init__(self, folder: Path) -> None:
        self._parts = _parts(folder)

    @cached_property
    def num_rows(self) -> int:
        return sum(pq.read_metadata(part).num_rows for part in self._parts)

    def column(self, name: str) -> pa.ChunkedArray:
        kind = pq.read_schema(self._parts[0]).field(name).type
        return kept_column((chunk for of in self._each_group(name) for chunk in of.chunks), kind)

    def weight(self) -> NDArray[np.float32] | None:
        """None: all weigh 1."""
        return without_ones(self._floats("weight"))

    def score(self, task: str, column: str = "") -> NDArray[np.float32]:
        """`column` "": the expected value; see `columns_of`."""
        return self._floats(f"score.{task}.{column}" if column else f"score.{task}")

    def columns_of(self, task: str) -> tuple[str, ...]:
        """What its head predicts beside the expected value."""
        names, prefix = pq.read_schema(self._parts[0]).names, f"score.{task}."
        return tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))

    def label(self, task: str) -> NDArray[np.float32]:
        """NaN where not observed."""
        return self._floats(f"label.{task}")

    def _floats(self, name: str) -> NDArray[np.float32]:
        values, first = empty(self.num_rows, np.float32), 0
        for column in self._each_group(name):
            values[first : first + len(column)] = column.to_numpy()
            first += len(column)
        return values

    def _each_group(self, name: str) -> Iterator[pa.ChunkedArray]:
        """The column, row group by row group: a second thread would save a hundredth of the time
        that judging takes."""
        for part in self._parts:
            with pq.ParquetFile(part, memory_map=True) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=[name], use_threads=False).column(0)


def _parts(folder: Path) -> list[Path]:
    found = {path: _PART.match(path.name) for path in folder.iterdir()}
    parts = {int(match[1]): (path, int(match[2])) for path, match in found.items() if match}
    counts = {count for _, count in parts.values()}
    if len(counts) != 1 or set(parts) != set(range(counts.pop())):
        raise FileNotFoundError(
            f"{folder}: parts are missing; found {sorted(p.name for p in found)}"
        )
    return [parts[rank][0] for rank in range(len(parts))]
