"""Predictions from an artefact: the training's transforms, table lookups, the dense program.

Shapes: B rows, R width of the pooled embeddings, D dense features, P predictions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from marigold_rec.serving.artefact import DENSE_NAME, Artefact, read_artefact
from marigold_rec.serving.inputs import Inputs
from marigold_rec.serving.program import load_program
from marigold_rec.serving.tables import Lookup, open_table, pooled
from marigold_rec.transforms.feature_transforms import FeatureTransforms, Transformed
from marigold_rec.transforms.row_bits import ADMITTED_NAME, RowBits, read_row_bits

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Predictions:
    """Of N rows."""

    values: dict[str, NDArray[np.float32]]
    """Output -> [N]: probabilities, or seconds."""
    counts: dict[str, int]
    """What was dropped or replaced in the features, as `<what>/<feature>`; only what occurred."""


class Predictor:
    """Loads an artefact once; `predict` may be called from many threads.

    Predictions are float32. The same rows in the same batch give the same bits, whether they come
    as dict, frame or table; in a batch of another size the last bits may differ, since a matrix
    product rounds by its shape.
    """

    def __init__(self, folder: str | Path) -> None:
        """Verifies and reads every byte of the artefact. Raises CheckpointError."""
        path = Path(folder)
        self._artefact = read_artefact(path)
        tables = self._artefact.config_tables
        features = self._artefact.features
        self._transforms = FeatureTransforms(features, tables, self._admitted(path))
        self._inputs = Inputs(features, self._transforms, self._artefact.columns)
        opened = {name: open_table(path, entry) for name, entry in self._artefact.tables.items()}
        is_mean = {table.name: table.pooling == "mean" for table in tables}
        unpooled = self._artefact.sequences.values()
        sparse = self._artefact.sparse_features
        self._pooled: list[tuple[int, Lookup, bool]] = [
            (i, opened[feature.table_name], is_mean[feature.table_name])
            for i, feature in enumerate(sparse)
            if feature.name not in unpooled
        ]
        place = {feature.name: i for i, feature in enumerate(sparse)}
        self._sequences = [
            (place[name], opened[sparse[place[name]].table_name]) for name in unpooled
        ]
        self._dense = load_program(path / DENSE_NAME)

    @property
    def artefact(self) -> Artefact:
        """What artefact.json says: outputs, features, step of the checkpoint, versions."""
        return self._artefact

    @property
    def columns(self) -> tuple[str, ...]:
        """What the rows must have; other columns are passed over."""
        return self._transforms.columns

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(output.name for output in self._artefact.outputs)

    def predict(self, rows: Any) -> dict[str, NDArray[np.float32]]:
        """Output -> one value per row: a probability, or seconds of watch time.

        `rows`: a pyarrow.Table, a pandas.DataFrame, a dict of columns (or of single values: one
        row), or a list of dicts. Raises DataError in terms of the columns.
        """
        return self.predict_counted(rows).values

    def predict_counted(self, rows: Any) -> Predictions:
        """As `predict`, and what was dropped or replaced on the way."""
        table = self._inputs.table(rows)
        counts: Counter[str] = Counter()
        parts: list[NDArray[np.float32]] = []
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            found = self._transforms(table.slice(start, _ROWS_AT_ONCE))
            counts.update(found.counts)
            parts.append(self._predict(found))
        none = np.empty((0, len(self._artefact.predictions)), np.float32)
        predictions_BP = parts[0] if len(parts) == 1 else np.concatenate([none, *parts])
        return Predictions(self._named(predictions_BP), dict(counts))

    def check(self, schema: pa.Schema) -> None:
        """Raises DataError where rows of this schema can't be predicted."""
        self._inputs.check(schema)

    def _admitted(self, path: Path) -> dict[str, RowBits]:
        if ADMITTED_NAME not in self._artefact.files:
            return {}
        return read_row_bits(path / ADMITTED_NAME, self._artefact.config_tables)

    def _predict(self, found: Transformed) -> NDArray[np.float32]:
        """predictions_BP."""
        with torch.inference_mode():
            pieces = [
                pooled(
                    table,
                    torch.from_numpy(_writable(found.sparse[i].values)),
                    _tensor(found.sparse[i].lengths),
                    is_mean=is_mean,
                )
                for i, table, is_mean in self._pooled
            ]
            z_BR = torch.cat(pieces, dim=1) if pieces else torch.empty(found.num_rows, 0)
            jagged: list[torch.Tensor] = []
            for i, table in self._sequences:
                ids, lengths_B = found.sparse[i], _tensor(found.sparse[i].lengths)
                if lengths_B is None:
                    lengths_B = torch.ones(found.num_rows, dtype=torch.int64)
                zero = lengths_B.new_zeros(1, dtype=torch.int64)
                jagged += [
                    table.rows(torch.from_numpy(_writable(ids.values))),
                    torch.cat([zero, lengths_B.cumsum(0)]),
                ]
            return self._dense(z_BR, torch.from_numpy(found.dense_BD), *jagged).numpy()

    def _named(self, predictions_BP: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        by_name = {
            name: np.ascontiguousarray(predictions_BP[:, i])
            for i, name in enumerate(self._artefact.predictions)
        }
        named: dict[str, NDArray[np.float32]] = {}
        for output in self._artefact.outputs:
            value_B = by_name[output.factors[0]]
            for factor in output.factors[1:]:
                value_B = value_B * by_name[factor]
            named[output.name] = value_B
        return named


def _tensor(lengths_B: np.ndarray | None) -> torch.Tensor | None:
    return None if lengths_B is None else torch.from_numpy(_writable(lengths_B))


def _writable(array: np.ndarray) -> np.ndarray:
    """torch warns of arrays that share Arrow's memory, which nobody may write."""
    return array if array.flags.writeable else array.copy()
