"""A decoded and transformed block of rows, and the cutting of batches from blocks.

Shapes: N rows of a block, B rows of a batch, D dense features, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from data_pipelines.labels.columns import Labels
from marigold_rec.batch import Batch, Cursor
from marigold_rec.transforms.feature_transforms import Transformed


@dataclass(frozen=True)
class DecodedBlock:
    """N rows, in the order in which they are trained on."""

    features: Transformed
    labels: Labels
    columns: dict[str, pa.Array]
    """Extra columns asked of the reader."""
    sources: tuple[str, ...]

    @cached_property
    def offsets(self) -> list[np.ndarray | None]:
        """Per sparse feature, int64 [N + 1]: where each row's bag begins; None for one id a row."""
        return [
            None if ids.lengths is None else np.concatenate([[0], np.cumsum(ids.lengths)])
            for ids in self.features.sparse
        ]

    @property
    def num_rows(self) -> int:
        return self.features.num_rows

    @property
    def counts(self) -> dict[str, int]:
        return {**self.features.counts, **self.labels.counts}


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of a block."""

    block: DecodedBlock
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class BatchShape:
    """What every batch of a reader has alike."""

    batch_size: int
    features: tuple[str, ...]
    """Sparse features, in the order of `Transformed.sparse`."""
    unpooled: frozenset[str]
    """Those whose tables are looked up unpooled."""
    num_dense: int
    num_tasks: int
    columns: dict[str, pa.DataType]
    """Extra columns."""


def assemble(parts: Sequence[Part], shape: BatchShape, cursor: Cursor) -> Batch:
    """One batch of the parts' rows, filled up with empty rows to `shape.batch_size`."""
    num_rows = sum(part.num_rows for part in parts)
    empty = shape.batch_size - num_rows
    features = [part.block.features for part in parts]
    labels = [part.block.labels for part in parts]
    dense_BD = _rows(parts, [f.dense_BD for f in features], empty, (shape.num_dense,))
    unpooled = [f for f in shape.features if f in shape.unpooled]
    labels_BT = _rows(parts, [x.labels_BT for x in labels], empty, (shape.num_tasks,))
    observed_BT = _rows(parts, [x.observed_BT for x in labels], empty, (shape.num_tasks,))
    weights_B = _rows(parts, [x.weights_B for x in labels], empty, ())
    return Batch(
        sparse=_jagged(parts, shape, [f for f in shape.features if f not in shape.unpooled]),
        dense_BD=torch.from_numpy(dense_BD),
        labels_BT=torch.from_numpy(labels_BT),
        observed_BT=torch.from_numpy(observed_BT),
        weights_B=torch.from_numpy(weights_B),
        num_rows=num_rows,
        cursor=cursor,
        unpooled=_jagged(parts, shape, unpooled) if unpooled else None,
        sources=tuple(dict.fromkeys(s for part in parts for s in part.block.sources)),
        columns=_columns(parts, shape),
    )


def _rows(
    parts: Sequence[Part], arrays: list[np.ndarray], empty: int, width: tuple[int, ...]
) -> np.ndarray:
    """float32 [B, *width]: a view when one part fills the batch, so that most batches copy none."""
    slices = [a[part.start : part.stop] for part, a in zip(parts, arrays, strict=True)]
    if empty:
        slices.append(np.zeros((empty, *width), np.float32))
    return slices[0] if len(slices) == 1 else np.concatenate(slices)


def _jagged(parts: Sequence[Part], shape: BatchShape, keys: Sequence[str]) -> KeyedJaggedTensor:
    num_keys = len(keys)
    lengths_FB = np.ones((num_keys, shape.batch_size), np.int32)
    values: list[np.ndarray] = []
    num_values = [0] * num_keys
    for key, name in enumerate(keys):
        first_row, index = 0, shape.features.index(name)
        for part in parts:
            ids, offsets = part.block.features.sparse[index], part.block.offsets[index]
            start, stop = part.start, part.stop
            last_row = first_row + part.num_rows
            if ids.lengths is not None and offsets is not None:
                lengths_FB[key, first_row:last_row] = ids.lengths[start:stop]
                start, stop = offsets[start], offsets[stop]
            values.append(ids.values[start:stop])
            num_values[key] += int(stop - start)
            first_row = last_row
        lengths_FB[key, first_row:] = 0
    joined = np.concatenate(values) if values else np.empty(0, np.int64)
    # The sums are given, or the first exchange of ids would compute them on the training thread.
    return KeyedJaggedTensor(
        keys=list(keys),
        values=torch.from_numpy(joined),
        lengths=torch.from_numpy(lengths_FB.reshape(-1)),
        stride=shape.batch_size,
        length_per_key=num_values,
    )


def _columns(parts: Sequence[Part], shape: BatchShape) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    for name, kind in shape.columns.items():
        slices = [part.block.columns[name].slice(part.start, part.num_rows) for part in parts]
        columns[name] = pa.concat_arrays(slices or [pa.array([], kind)])
    return columns
