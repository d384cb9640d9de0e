"""Cuts the rows of a split into slices by a column: categories, or ten equal parts of a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

MOST_VALUES = 50
"""Categories that get a slice of their own; the rarer ones share `other`."""

_PARTS = 10


@dataclass(frozen=True)
class Slicing:
    """Slice `values[code_N[n]]` holds row n."""

    name: str
    code_N: NDArray[np.int32]
    values: tuple[str, ...]


def slicing(name: str, column: pa.ChunkedArray) -> Slicing:
    """By the column's values; a number of more than MOST_VALUES values by its deciles.

    Nulls (and NaN) are a slice. Raises ValueError for lists and structs.
    """
    kind = column.type
    if pat.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pat.is_nested(column.type):
        raise ValueError(f"column {name!r} is {kind}; rows are sliced by a number, text or boolean")
    if pat.is_floating(column.type):
        is_nan = pc.call_function("is_nan", [column])
        column = pc.call_function("if_else", [is_nan, pa.scalar(None, column.type), column])
    encoded = column.dictionary_encode(null_encoding="encode").unify_dictionaries()
    values = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], column.type)
    is_number = pat.is_integer(column.type) or pat.is_floating(column.type)
    if is_number and len(values) - values.null_count > MOST_VALUES:
        return deciles(name, column.cast(pa.float64()).to_numpy())
    code_N = np.concatenate(
        [np.empty(0, np.int32), *(chunk.indices.to_numpy() for chunk in encoded.chunks)]
    )
    return _categories(name, code_N, values.to_pylist())


def deciles(name: str, value_N: NDArray[np.float64]) -> Slicing:
    """Ten parts of equally many rows, fewer where values are tied; NaN apart."""
    is_known_N = ~np.isnan(value_N)
    known = value_N[is_known_N]
    ends = np.unique(np.quantile(known, np.arange(1, _PARTS) / _PARTS, method="inverted_cdf"))
    ends = ends[ends < known.max()]
    code_N = np.searchsorted(ends, value_N, side="left").astype(np.int32)
    code_N[~is_known_N] = len(ends) + 1
    lows = [known.min(), *ends]
    highs = [*ends, known.max()]
    names = [
        f"{_text(low)} to {_text(high)}" if i == 0 else f"above {_text(low)} to {_text(high)}"
        for i, (low, high) in enumerate(zip(lows, highs, strict=True))
    ]
    return Slicing(name, code_N, (*names, "missing"))


def by_training(name: str, count_N: NDArray[np.int64]) -> Slicing:
    """By how often training saw a row's id: never, or in which tenth of the rows seen."""
    seen = deciles(name, np.where(count_N > 0, count_N, np.nan))
    *names, _ = seen.values
    return Slicing(name, seen.code_N, (*(f"seen {text} times" for text in names), "unseen"))


def new_or_known(name: str, count_N: NDArray[np.int64]) -> Slicing:
    return Slicing(name, (count_N > 0).astype(np.int32), ("new", "known"))


def _categories(name: str, code_N: NDArray[np.int32], values: Sequence[Any]) -> Slicing:
    """The most frequent first; beyond MOST_VALUES they share one slice."""
    rows = np.bincount(code_N, minlength=len(values))
    order = np.argsort(-rows, kind="stable")
    place = np.empty(len(values), np.int32)
    place[order] = np.arange(len(values))
    names = ["missing" if values[i] is None else str(values[i]) for i in order]
    if len(names) > MOST_VALUES:
        others = len(names) - MOST_VALUES
        names = [*names[:MOST_VALUES], f"other ({others:,} values)"]
        place = np.minimum(place, MOST_VALUES)
    return Slicing(name, place[code_N], tuple(names))


def _text(value: float) -> str:
    """Four digits, and all of those before the point: 1.236, 28,720."""
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"
