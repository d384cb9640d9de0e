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

from marigold_rec.analysis.codes import value_codes
from marigold_rec.analysis.row_arrays import chunks, empty, rows_where, taken

MOST_VALUES = 50
"""Categories that get a slice of their own; the rarer ones share `other`."""

_PARTS = 10


@dataclass(frozen=True)
class Slicing:
    """Slice `values[code_N[n]]` holds row n."""

    name: str
    code_N: NDArray[np.int32]
    values: tuple[str, ...]


def can_slice(kind: pa.DataType) -> bool:
    """Whether `slicing` takes a column of this plain type."""
    return not (pat.is_nested(kind) or pat.is_interval(kind))


def slicing(name: str, column: pa.ChunkedArray) -> Slicing:
    """By the column's values; a number of more than MOST_VALUES values by its deciles.

    Nulls (and NaN) are a slice. Raises ValueError for lists and structs.
    """
    kind = column.type
    if pat.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if not can_slice(column.type):
        raise ValueError(f"column {name!r} is {kind}; rows are sliced by a number, text or boolean")
    if pat.is_binary(column.type) or pat.is_large_binary(column.type):
        column = readable(column)
    if pat.is_floating(column.type):
        is_nan = pc.call_function("is_nan", [column])
        column = pc.call_function("if_else", [is_nan, pa.scalar(None, column.type), column])
    code_N, values = value_codes(column)
    is_number = pat.is_integer(column.type) or pat.is_floating(column.type)
    if is_number and len(values) > MOST_VALUES:
        value_N, start = empty(len(column), np.float64), 0
        for chunk in column.chunks:
            # Not safe: ids beyond 2**53 are rounded, and not refused.
            floats = chunk.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            value_N[start : start + len(chunk)] = floats
            start += len(chunk)
        return deciles(name, value_N)
    return _categories(name, code_N, values)


def readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bytes as text where they are text, else as hex digits."""
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        hexed = [[None if v is None else v.hex() for v in c.to_pylist()] for c in column.chunks]
        return pa.chunked_array([pa.array(c, pa.large_string()) for c in hexed], pa.large_string())


def deciles(name: str, value_N: NDArray[np.float64]) -> Slicing:
    """Ten parts of equally many rows, fewer where values are tied; NaN apart."""
    known = taken(value_N, rows_where(len(value_N), lambda part: ~np.isnan(value_N[part])))
    code_N = empty(len(value_N), np.int32)
    if not len(known):
        code_N[:] = 0
        return Slicing(name, code_N, ("missing",))
    lowest, highest = known.min(), known.max()
    shares = np.arange(1, _PARTS) / _PARTS
    ends = np.unique(np.quantile(known, shares, method="inverted_cdf", overwrite_input=True))
    ends = ends[ends < highest]
    for part in chunks(len(value_N)):
        value_n = value_N[part]
        code_n = np.searchsorted(ends, value_n, side="left")
        code_N[part] = np.where(np.isnan(value_n), len(ends) + 1, code_n)
    limits = _texts([lowest, *ends, highest])
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
    """The most frequent first; beyond MOST_VALUES they share one slice. Writes over `code_N`."""
    rows = np.zeros(len(values) + 1, np.intp)  # the last one counts the nulls
    for part in chunks(len(code_N)):
        np.add.at(rows, code_N[part], 1)
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
    for part in chunks(len(code_N)):
        code_N[part] = place[code_N[part]]
    return Slicing(name, code_N, tuple(names))


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
