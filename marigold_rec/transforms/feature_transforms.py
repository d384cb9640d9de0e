"""All features of a config at once: an Arrow table -> bags of ids and dense values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from marigold_rec.config.features import FeatureSettings, SparseFeature
from marigold_rec.config.tables import Table
from marigold_rec.transforms.admission import admit
from marigold_rec.transforms.column_types import feature_type_problems
from marigold_rec.transforms.jagged import JaggedIds, lengths_after
from marigold_rec.transforms.kinds import kind_of
from marigold_rec.transforms.row_bits import RowBits
from marigold_rec.transforms.rows import Bags, BagTransform


@dataclass(frozen=True)
class Transformed:
    """The features of B rows."""

    num_rows: int
    sparse: list[JaggedIds]
    """One per sparse feature, in config order."""
    dense_BD: np.ndarray
    """float32, C-contiguous, one column per dense feature, in config order; all finite."""
    counts: dict[str, int]
    """What was dropped or replaced, as `<what>/<feature>`; only what occurred.

    `missing`: nulls and NaN; `non_finite`: infinite dense inputs; `out_of_range`: ids dropped or
    clamped; `out_of_vocab`: values that share row 0; `rare`: ids that share row 0 since
    their own is not admitted yet; `cut`: entries of lists beyond max_length.
    """


class FeatureTransforms:
    """Turns tables that hold `columns` into features. Stateless, picklable, safe in threads."""

    def __init__(
        self,
        config_features: tuple[FeatureSettings, ...],
        tables: tuple[Table, ...],
        admitted: Mapping[str, RowBits] | None = None,
    ) -> None:
        """`admitted`: by table, of those whose rare ids share a row (`admission.py`)."""
        self._features = config_features
        rows = {table.name: table.rows for table in tables}
        self._sparse: list[tuple[SparseFeature, BagTransform, RowBits | None]] = []
        self._dense: list[FeatureSettings] = []
        for feature in config_features:
            if not isinstance(feature, SparseFeature):
                self._dense.append(feature)
            else:
                transform = kind_of(feature).transform(feature, rows[feature.table_name])
                bits = (admitted or {}).get(feature.table_name)
                self._sparse.append((feature, transform, bits))

    @property
    def columns(self) -> tuple[str, ...]:
        """The Parquet columns that the features read, each once, in config order."""
        return tuple(dict.fromkeys(c for feature in self._features for c in feature.columns))

    def check_types(self, schema: pa.Schema) -> list[str]:
        """One line per feature whose column is missing or of a wrong type; [] if all is well."""
        return feature_type_problems(self._features, schema)

    def __call__(self, table: pa.Table) -> Transformed:
        """The features of all rows of `table`, whose schema must have passed `check_types`.

        Raises DataError when an `id` feature with `out_of_range: error` meets such an id.
        """
        counts: Counter[str] = Counter()
        sparse = [
            _jagged(feature, transform(table), bits, counts)
            for feature, transform, bits in self._sparse
        ]
        dense_BD = np.empty((table.num_rows, len(self._dense)), np.float32)
        for index, feature in enumerate(self._dense):
            dense_BD[:, index], found = kind_of(feature).values(feature, table)
            for what, count in found.items():
                counts[f"{what}/{feature.name}"] += count
        return Transformed(table.num_rows, sparse, dense_BD, dict(counts))


def _jagged(
    feature: SparseFeature, bags: Bags, admitted: RowBits | None, counts: Counter[str]
) -> JaggedIds:
    rows = bags.rows if admitted is None else admit(bags.rows, admitted)
    for what, count in [*bags.counts.items(), *rows.counts.items()]:
        counts[f"{what}/{feature.name}"] += count
    if rows.keep_V is None:
        return JaggedIds(rows.rows_V, bags.lengths)
    return JaggedIds(rows.rows_V[rows.keep_V], lengths_after(rows.keep_V, bags.lengths))
