"""What is to be said of a config's inputs, from whatever rows are shown to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_pipelines.inputs.dense_columns import DenseColumn, DenseTally
from data_pipelines.inputs.label_values import LabelTally
from data_pipelines.inputs.run_length import plan_findings
from data_pipelines.inputs.sparse_columns import SparseTally
from data_pipelines.inputs.text_table import text_table
from data_pipelines.labels.columns import LabelColumns, Labels, zero_weights
from marigold_rec.config.due import Due
from marigold_rec.config.features import FeatureSettings, SparseFeature
from marigold_rec.config.schema import Config
from marigold_rec.transforms.dense import NumberKind
from marigold_rec.transforms.feature_transforms import FeatureTransforms, Transformed
from marigold_rec.transforms.kinds import kind_of


@dataclass(frozen=True)
class InputChecks:
    """Findings about the inputs: each names a setting or column, what was found, what to do."""

    rows: int
    """That were looked at."""
    total_rows: int
    dense: tuple[DenseColumn, ...]
    values: tuple[str, ...]
    """Findings about the rows' values."""
    problems: tuple[str, ...]
    """What no run can learn from."""
    plan: tuple[str, ...]
    """Findings about what a run would do with them."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.values, *self.plan)

    def lines(self) -> Iterator[str]:
        """The dense columns after their transforms, as a table for people."""
        if self.dense:
            yield f"dense columns after their transforms, over {self.rows:,} rows:"
            yield from text_table(
                ["feature", "column", "mean", "std", "min", "max", "missing"],
                [
                    [
                        found.name,
                        found.column,
                        *(f"{x:.4g}" for x in (found.mean, found.std, found.least, found.greatest)),
                        f"{found.missing_share:.2%}",
                    ]
                    for found in self.dense
                ],
            )


class InputTally:
    """Fed with pieces of the split's rows. What training would refuse is left to others."""

    def __init__(self, config: Config, due: Due | None) -> None:
        """`due`: of the split, as in LabelColumns."""
        self._config = config
        tables = config.tables
        rows = {table.name: table.rows for table in tables}
        patient = tuple(f.lenient() if isinstance(f, SparseFeature) else f for f in config.features)
        self._transforms = FeatureTransforms(patient, tables)
        self._label_columns = LabelColumns.of(config, due)
        self._dense = [DenseTally(f) for f in config.dense_features]
        self._sparse = [SparseTally(f, rows[f.table_name]) for f in config.sparse_features]
        self._labels = [LabelTally(task) for task in config.tasks]
        self._rows = self._weightless = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that it reads, each once."""
        return tuple(dict.fromkeys([*self._transforms.columns, *self._label_columns.columns]))

    def add(self, table: pa.Table) -> tuple[Transformed, Labels]:
        """Returns what training makes of the rows; ids out of range are dropped, not refused."""
        found, labels = self._transforms(table), self._label_columns(table)
        self._rows += table.num_rows
        self._weightless += sum(tally.num_zero for tally in labels.tallies)
        counts: dict[str, dict[str, int]] = {}
        for key, count in found.counts.items():
            what, _, name = key.partition("/")
            counts.setdefault(name, {})[what] = count
        for index, (feature, tally) in enumerate(
            zip(self._config.dense_features, self._dense, strict=True)
        ):
            filled = sum(counts.get(feature.name, {}).values())
            tally.add(
                _lone_column(feature, table),
                _numbers(feature, table),
                found.dense_BD[:, index],
                filled,
            )
        for feature, tally, ids in zip(
            self._config.sparse_features, self._sparse, found.sparse, strict=True
        ):
            tally.add(
                _lone_column(feature, table), table.num_rows, ids, counts.get(feature.name, {})
            )
        for index, tally in enumerate(self._labels):
            observed_B = labels.observed_BT[:, index] > 0
            tally.add(table, labels.labels_BT[:, index], observed_B)
        return found, labels

    def checks(self, total_rows: int, world_size: int, unread: tuple[str, ...] = ()) -> InputChecks:
        """`total_rows`: of the split. `unread`: what to say of rows that could not be looked at."""
        dense = tuple(tally.column() for tally in self._dense)
        values = [*unread, *(text for column in dense for text in column.findings)]
        values += [text for tally in self._sparse for text in tally.findings()]
        values += [text for tally in self._labels for text in tally.findings(total_rows)]
        problems: list[str] = []
        if (weight := self._config.data.weight) is not None and 0 < self._rows == self._weightless:
            # Of a sample it may be chance.
            is_all = self._rows >= total_rows
            (problems if is_all else values).append(zero_weights(weight, self._rows))
        plan = tuple(plan_findings(self._config, total_rows, world_size))
        return InputChecks(self._rows, total_rows, dense, tuple(values), tuple(problems), plan)


def _numbers(feature: FeatureSettings, table: pa.Table) -> np.ndarray | None:
    """float64 [rows], before the transforms; None: it is of a kind that makes no single number."""
    kind = kind_of(feature)
    return kind.numbers(feature, table) if issubclass(kind, NumberKind) else None


def _lone_column(feature: FeatureSettings, table: pa.Table) -> pa.ChunkedArray | None:
    """The feature's column; None where it reads several, whose values say little one by one."""
    return table.column(feature.columns[0]) if len(feature.columns) == 1 else None
