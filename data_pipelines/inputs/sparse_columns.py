"""Columns that become table rows: values outside of vocabulary or table, missing, or all alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.inputs.examples import NUM_EXAMPLES, Examples, named, where_of
from marigold_rec.config.features import IdFeature, ReadsList, SparseFeature, VocabFeature
from marigold_rec.transforms.columns import int64_bits
from marigold_rec.transforms.jagged import JaggedIds, flatten

_MUCH_OUTSIDE = 0.25
_FREQUENT = 0.05
"""Share of one value: a vocabulary leaves out the rare ones, and never one as frequent as this."""
_MUCH_MISSING = 0.45
"""About half, as a sample tells it."""
_FEW = 100
"""Rows or values; fewer may be alike, missing or unknown by chance."""
_MOST_UNKNOWN = 10_000
"""Different values outside the vocabulary that are told apart."""


class SparseTally:
    """Fed with pieces of one feature's rows: its column, and what it was made into."""

    def __init__(self, feature: SparseFeature, table_rows: int) -> None:
        self._feature = feature
        self._table_rows = table_rows
        self._cut = feature.cut if isinstance(feature, ReadsList) else None
        self._rows = 0
        self._values = 0
        self._missing = 0
        self._empty = 0
        self._least, self._greatest = table_rows, -1
        self._is_listed = np.zeros(table_rows if isinstance(feature, VocabFeature) else 0, bool)
        self._unknown: Counter[object] = Counter()
        self._outside = 0
        self._outside_examples = Examples()
        self._examples = Examples()

    def add(
        self,
        column: pa.ChunkedArray | None,
        num_rows: int,
        ids: JaggedIds,
        counts: Mapping[str, int],
    ) -> None:
        """`column`: None for a feature of several. `counts`: what the transform dropped or replaced
        of these rows, by name."""
        self._rows += num_rows
        if ids.lengths is not None:
            self._empty += int(np.count_nonzero(ids.lengths == 0))
        if len(ids.values):
            self._least = min(self._least, int(ids.values.min()))
            self._greatest = max(self._greatest, int(ids.values.max()))
        nulls = 0 if column is None else column.null_count
        self._missing += min(num_rows, nulls or counts.get("missing", 0))
        if column is None:
            self._values += len(ids.values)
            return
        flat = flatten(column, self._cut)
        self._values += len(flat.values)
        self._examples.add(flat.values)
        if isinstance(self._feature, VocabFeature):
            self._add_unknown(flat.values, ids.values)
        elif isinstance(self._feature, IdFeature) and counts.get("out_of_range"):
            outside = int64_bits(flat.values).view(np.uint64) >= np.uint64(self._table_rows)
            self._outside += counts["out_of_range"]
            self._outside_examples.add(flat.values.filter(pa.array(outside)))

    def _add_unknown(self, values: pa.Array, rows_V: np.ndarray) -> None:
        self._is_listed[rows_V] = True
        is_unknown_V = rows_V == 0
        self._outside += int(np.count_nonzero(is_unknown_V))
        if len(self._unknown) < _MOST_UNKNOWN:
            counted = pc.call_function("value_counts", [values.filter(pa.array(is_unknown_V))])
            values_and_counts = (counted.field(name).to_pylist() for name in ("values", "counts"))
            self._unknown.update(dict(zip(*values_and_counts, strict=True)))

    def findings(self) -> Iterator[str]:
        feature, rows = self._feature, self._rows
        where = where_of(feature)
        if rows < _FEW:
            return
        if self._missing >= _MUCH_MISSING * rows:
            yield (
                f"{where} is missing in {self._missing:,} of {rows:,} rows (found: "
                f"{self._examples}): is it the right column? Fill it, or leave the feature out"
            )
        elif self._empty == rows:
            yield (
                f"{where} gives no id in any of {rows:,} rows (found: {self._examples}): is it the "
                "right column, and has its table enough rows?"
            )
        if self._values < _FEW:
            return
        outside = list(self._outside_findings(where))
        yield from outside
        if not outside and self._least == self._greatest and len(self._examples.values) > 1:
            yield (
                f"{where}: all {self._values:,} values fall into one row of the table (found: "
                f"{self._examples}), which says nothing: {self._apart()}"
            )
        elif not outside and self._values and len(self._examples.values) == 1:
            yield (
                f"{where} is {self._examples} in all {self._values:,} values, which says nothing: "
                "is it the right column? Leave the feature out"
            )

    def _outside_findings(self, where: str) -> Iterator[str]:
        share = self._outside / self._values
        if isinstance(self._feature, VocabFeature):
            top = self._unknown.most_common(NUM_EXAMPLES)
            if share < _MUCH_OUTSIDE and (not top or top[0][1] < _FREQUENT * self._values):
                return
            absent = [
                value
                for value, is_listed in zip(
                    self._feature.values, self._is_listed[1:].tolist(), strict=True
                )
                if not is_listed
            ]
            never = f"; listed and never found: {named(absent[:NUM_EXAMPLES])}" if absent else ""
            yield (
                f"{where}: {self._outside:,} of {self._values:,} values ({share:.1%}) are not in "
                f"its vocabulary and share one row, most often {named(v for v, _ in top)}{never}; "
                "add them to values as they stand in the column (letter by letter), or use "
                "kind: hash"
            )
        elif share >= _MUCH_OUTSIDE:
            yield (
                f"{where}: {self._outside:,} of {self._values:,} ids ({share:.1%}) are outside "
                f"[0, {self._table_rows}), e.g. {self._outside_examples}; set rows above the "
                "largest id, or use kind: hash"
            )

    def _apart(self) -> str:
        if self._feature.kind == "bucketize":
            return "set boundaries between the values of the column (are the units the same?)"
        return "give the table more rows, or leave the feature out"
