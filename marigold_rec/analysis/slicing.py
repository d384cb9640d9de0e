"""Cuts the rows of a split into slices by a column: categories, or ten equal parts of a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    code_N, values = value_codes(column)
    is_number = pat.is_integer(column.type) or pat.is_floating(column.type)
    if is_number and len(values) > MOST_VALUES:
        # Not safe: ids beyond 2**53 are rounded, and not refused.
        return deciles(name, column.cast(pa.float64(), safe=False).to_numpy())
    return _categories(name, code_N, values)


def value_codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.Array]:
    """(number of each row's value, the distinct values); the number is their count for a null."""
    if pat.is_null(column.type):  # Arrow can't unify dictionaries of nothing
        column = column.cast(pa.string())
    encoded = column.dictionary_encode().unify_dictionaries()
    values = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], column.type)
    chunks = [chunk.indices.fill_null(len(values)).to_numpy() for chunk in encoded.chunks]
    return np.concatenate([np.empty(0, np.int32), *chunks]), values


def deciles(name: str, value_N: NDArray[np.float64]) -> Slicing:
    """Ten parts of equally many rows, fewer where values are tied; NaN apart."""
    is_known_N = ~np.isnan(value_N)
    known = value_N[is_known_N]
    if not len(known):
        return Slicing(name, np.zeros(len(value_N), np.int32), ("missing",))
    ends = np.unique(np.quantile(known, np.arange(1, _PARTS) / _PARTS, method="inverted_cdf"))
    ends = ends[ends < known.max()]
    code_N = np.searchsorted(ends, value_N, side="left").astype(np.int32)
    code_N[~is_known_N] = len(ends) + 1
    limits = _texts([known.min(), *ends, known.max()])
    names = [f"above {low} to {high}" for low, high in pairwise(limits)]
    names[0] = limits[0] if limits[0] == limits[1] else f"{limits[0]} to {limits[1]}"
    return Slicing(name, code_N, (*names, "missing"))


def by_training(name: str, count_N: NDArray[np.int64]) -> Slicing:
    """By how often training saw a row's id: never, or in which tenth of the rows seen."""
    seen = deciles(name, np.where(count_N > 0, count_N, np.nan))
    *names, _ = seen.values
    return Slicing(name, seen.code_N, (*(f"seen {text} times" for text in names), "unseen"))


def new_or_known(name: str, count_N: NDArray[np.int64]) -> Slicing:
    return Slicing(name, (count_N > 0).astype(np.int32), ("new", "known"))


def _categories(name: str, code_N: NDArray[np.int32], values: pa.Array) -> Slicing:
    """The most frequent first; beyond MOST_VALUES they share one slice."""
    rows = np.bincount(code_N, minlength=len(values) + 1)  # the last one counts the nulls
    order = np.argsort(-rows, kind="stable")
    order = order[rows[order] > 0]
    place = np.zeros(len(rows), np.int32)
    place[order] = np.minimum(np.arange(len(order)), MOST_VALUES)
    shown = values.take(pa.array(order[:MOST_VALUES], mask=order[:MOST_VALUES] == len(values)))
    if pat.is_floating(shown.type):  # 0.1 and not 0.10000000149011612
        shown = shown.cast(pa.string())
    names = ["missing" if value is None else str(value) for value in shown.to_pylist()]
    if len(order) > MOST_VALUES:
        names.append(f"other ({len(order) - MOST_VALUES:,} values)")
    return Slicing(name, place[code_N], tuple(names))


def _texts(values: Sequence[float]) -> list[str]:
    """Four digits, or as many as tell different values apart: two slices have two names."""
    distinct = len(set(values))
    texts: list[str] = []
    for digits in (4, 6, 9, 13, 17):
        texts = [_text(value, digits) for value in values]
        if len(set(texts)) == distinct:
            break
    return texts


def _text(value: float, digits: int) -> str:
    """All of the digits before the point: 1.236, 28,720, inf."""
    if not math.isfinite(value):
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.0f}" if value.is_integer() or places <= 0 else f"{value:.{digits}g}"
