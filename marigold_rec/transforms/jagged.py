"""Bags of ids, and the flattening of scalar and list columns into them.

Shapes: N rows, V values (the concatenated bags of all rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import Cut
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
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was left out: `missing` (null scalars, null lists and nulls inside lists, each counted
    once) and `cut` (entries of lists that are too long); only what occurred."""


def flatten(column: pa.ChunkedArray | pa.Array, cut: Cut | None = None) -> FlatColumn:
    """`column` (scalars or lists) as flat values; a null row becomes an empty bag."""
    array = lone_array(column)
    lengths = None
    missing = num_cut = 0
    values = array
    if is_list(array.type):
        missing = array.null_count
        lengths = array.value_lengths().fill_null(0).cast(pa.int32()).to_numpy()
        # flatten() respects slices and leaves out whatever lies behind a null list.
        values = array.flatten()
        if cut is not None:
            values, lengths, num_cut = _shortened(values, lengths, cut)
    if values.null_count:
        missing += values.null_count
        keep = values.is_valid().to_numpy(zero_copy_only=False)
        values = values.drop_null()
        lengths = lengths_after(keep, lengths)
    if pat.is_null(values.type):  # none is left: of any type
        values = values.cast(pa.int64())
    found = {"missing": missing, "cut": num_cut}
    return FlatColumn(values, lengths, {what: count for what, count in found.items() if count})


def places(lengths_N: np.ndarray) -> np.ndarray:
    """int64 [V]: the place of each value in its row's list, from 0."""
    starts_N = np.cumsum(lengths_N) - lengths_N
    return np.arange(int(lengths_N.sum())) - np.repeat(starts_N, lengths_N)


def _shortened(
    values: pa.Array, lengths_N: np.ndarray, cut: Cut
) -> tuple[pa.Array, np.ndarray, int]:
    if not len(lengths_N) or lengths_N.max() <= cut.length:
        return values, lengths_N, 0
    keep_V = places(lengths_N)
    if cut.keep == "last":
        keep_V = np.repeat(lengths_N, lengths_N) - 1 - keep_V
    kept = values.filter(pa.array(keep_V < cut.length))
    return kept, np.minimum(lengths_N, np.int32(cut.length)), len(values) - len(kept)


def lengths_after(keep_V: np.ndarray, lengths_N: np.ndarray | None) -> np.ndarray:
    """Lengths of the bags (int32 [N]) once only the values marked in `keep_V` are left."""
    if lengths_N is None:
        return keep_V.astype(np.int32)
    kept = np.concatenate([[0], np.cumsum(keep_V)])
    ends = np.cumsum(lengths_N)
    return (kept[ends] - kept[ends - lengths_N]).astype(np.int32)
