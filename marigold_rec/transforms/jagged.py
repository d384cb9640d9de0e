"""Bags of ids, and the flattening of scalar and list columns into them.

Shapes: N rows, V values (the concatenated bags of all rows).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.transforms.arrow_types import is_list
from marigold_rec.transforms.columns import lone_array


@dataclass(frozen=True)
class JaggedIds:
    """One sparse feature of N rows: each row holds a bag of embedding row ids."""

    values: np.ndarray
    """int64 [V], the rows' bags one after the other."""
    lengths: np.ndarray | None
    """int32 [N]; None when every row holds exactly one id (then V == N)."""


@dataclass(frozen=True)
class FlatColumn:
    """A column's values without nulls, and how many of them each row holds."""

    values: pa.Array
    lengths: np.ndarray | None
    """int32 [N]; None when every row holds exactly one value."""
    missing: int
    """Nulls left out: null scalars, null lists and nulls inside lists, each counted once."""


def flatten(column: pa.ChunkedArray | pa.Array) -> FlatColumn:
    """`column` (scalars or lists) as flat values; a null row becomes an empty bag."""
    array = lone_array(column)
    lengths = None
    missing = 0
    values = array
    if is_list(array.type):
        missing = array.null_count
        lengths = array.value_lengths().fill_null(0).cast(pa.int32()).to_numpy()
        # flatten() respects slices and leaves out whatever lies behind a null list.
        values = array.flatten()
    if values.null_count:
        missing += values.null_count
        keep = values.is_valid().to_numpy(zero_copy_only=False)
        values = values.drop_null()
        lengths = lengths_after(keep, lengths)
    if pat.is_null(values.type):  # none is left: of any type
        values = values.cast(pa.int64())
    return FlatColumn(values, lengths, missing)


def lengths_after(keep_V: np.ndarray, lengths_N: np.ndarray | None) -> np.ndarray:
    """Lengths of the bags (int32 [N]) once only the values marked in `keep_V` are left."""
    if lengths_N is None:
        return keep_V.astype(np.int32)
    kept = np.concatenate([[0], np.cumsum(keep_V)])
    ends = np.cumsum(lengths_N)
    return (kept[ends] - kept[ends - lengths_N]).astype(np.int32)
