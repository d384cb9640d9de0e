"""What a model said of the rows of a split, as Parquet: written by each rank, read by the analysis.

| column | type | meaning |
|---|---|---|
| `score.<task>` | float32 | prediction in the label's units |
| `label.<task>` | float32 | null where not observed |
| `weight` | float32 | of the row |
| `column.<name>` | as in the log | users, slates, slices |

The parts, in the order of the ranks, hold the rows in the order of the split's files, whatever the
number of ranks: the analysis sees the same rows in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
    ) -> None:
        """`folder` must be there. `columns`: what travels along, by name."""
        self._final = folder / f"part-{rank:05d}-of-{world_size:05d}.parquet"
        self._temporary = self._final.with_suffix(".tmp")
        self._tasks = tuple(tasks)
        self._columns = tuple(columns)
        fields = [("weight", pa.float32())]
        for task in tasks:
            fields += [(f"score.{task}", pa.float32()), (f"label.{task}", pa.float32())]
        fields += [(f"column.{name}", kind) for name, kind in columns.items()]
        self._schema = pa.schema(fields)
        self._pending: list[pa.RecordBatch] = []
        self._num_pending = 0
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")

    def add(
        self,
        scores_BT: NDArray[np.float32],
        labels_BT: NDArray[np.float32],
        observed_BT: NDArray[np.bool_],
        weights_B: NDArray[np.float32],
        columns: Mapping[str, pa.Array],
    ) -> None:
        arrays: list[pa.Array] = [pa.array(weights_B)]
        for i in range(len(self._tasks)):
            arrays.append(pa.array(scores_BT[:, i]))
            arrays.append(pa.array(labels_BT[:, i], mask=~observed_BT[:, i]))
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
        tables = [pq.read_table(part, columns=[name], memory_map=True) for part in self._parts]
        return pa.concat_tables(tables).column(0)

    def score(self, task: str) -> NDArray[np.float32]:
        return self.column(f"score.{task}").to_numpy()

    def label(self, task: str) -> NDArray[np.float32]:
        """NaN where not observed."""
        return self.column(f"label.{task}").to_numpy()


def _parts(folder: Path) -> list[Path]:
    found = {path: _PART.match(path.name) for path in folder.iterdir()}
    parts = {int(match[1]): (path, int(match[2])) for path, match in found.items() if match}
    counts = {count for _, count in parts.values()}
    if len(counts) != 1 or set(parts) != set(range(counts.pop())):
        raise FileNotFoundError(
            f"{folder}: parts are missing; found {sorted(p.name for p in found)}"
        )
    return [parts[rank][0] for rank in range(len(parts))]
